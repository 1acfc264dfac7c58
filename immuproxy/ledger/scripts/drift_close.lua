-- Upstream and ledger agree again: the finding ends, with the event of its repair.
--
-- KEYS 1 drift findings  2 outbox
-- ARGV 1 tag name  2 event
-- Returns 1 when there was a finding to close, else 0.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
publish(KEYS[2], ARGV[2], now_ms())
return 1
