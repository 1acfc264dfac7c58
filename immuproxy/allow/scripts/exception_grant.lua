-- A temporary permission to overwrite or delete one tag, with the event that tells of it.  A later one replaces an earlier one.
--
-- KEYS 1 exceptions  2 outbox
-- ARGV 1 tag  2 how long it lasts (ms)  3 digest that alone is meant, or ''  4 event id  5 event
--      6 who granted it  7 reason  8 what it allows: overwrite | delete  9 the ledger's own time (ms, H113)
-- Returns the end of the permission (ms).
local now = now_ms()
local ends = text(now + tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode({
  ends = tonumber(ends), granted = now, digest = ARGV[3], event = ARGV[4], by = ARGV[6], reason = ARGV[7],
  allows = ARGV[8], over = tonumber(ARGV[9]) + tonumber(ARGV[2]),
}))
publish(KEYS[2], ARGV[5], now)
return ends
