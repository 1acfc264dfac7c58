-- Late writes that are due: those that can land no more, and those that were left for another look.  Whoever takes them
-- keeps other proxies from them for a while.  None is due before the caller has seen the quarantine pass itself (H118).
--
-- KEYS 1 late
-- ARGV 1 how many at most  2 how long they are left to the caller (ms)  3 quarantine (ms that a PUT may be on its way)
--      4 what time the caller expects  5 for how long it has seen the clock go evenly (ms; see `passed`)
-- Returns {until when they are left to the caller, then each of them}.
local now, quarantine = now_ms(), tonumber(ARGV[3])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
local again, taken = text(now + tonumber(ARGV[2])), {}
for i = 1, #due, 2 do
  if passed(tonumber(due[i + 1]) - quarantine, now, tonumber(ARGV[4]), tonumber(ARGV[5])) >= quarantine then
    redis.call('ZADD', KEYS[1], again, due[i])
    taken[#taken + 1] = due[i]
  end
end
return {again, unpack(taken)}
