-- Record the outcome of an intent: exactly one event for each (I10).
--
-- KEYS 1 intents  2 outbox
-- ARGV 1 event id  2 event
-- Returns 1 when the event was written, 0 when the intent had its outcome already.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
publish(KEYS[2], ARGV[2], now_ms())
return 1
