-- The ledger's own time: that of Redis, but it never goes back (H113).  Where the clock went back it goes on from there.
--
-- KEYS 1 clock (hash: seen, the greatest time of Redis of late; added, by how much the ledger is ahead of it; ms)
-- ARGV 1 what the caller knows that it is at least (ms), 0 for nothing: of a ledger that came back older
-- Returns it (ms).
local known = redis.call('HMGET', KEYS[1], 'seen', 'added')
local now = now_ms()
local seen, added = tonumber(known[1] or now), tonumber(known[2] or 0)
local time = math.max(now + added, seen + added, tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'seen', text(now), 'added', text(time - now))
return text(time)
