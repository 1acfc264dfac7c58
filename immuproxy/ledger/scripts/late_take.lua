-- Late writes that are due: those that can land no more, and those that were left for another look.  Whoever takes them
-- keeps other proxies from them for a while.
--
-- KEYS 1 late
-- ARGV 1 how many at most  2 how long they are left to the caller (ms)
-- Returns {until when they are left to the caller, then each of them}.
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, ARGV[1])
local again = text(now + tonumber(ARGV[2]))
for _, put in ipairs(due) do redis.call('ZADD', KEYS[1], again, put) end
return {again, unpack(due)}
