-- Take one from each of several budgets, or from none of them.  A budget fills up by itself, one each `interval`.
--
-- A budget is one number: when it will be full again.  A full one needs no memory, so it is not kept.  None is emptier than
-- empty: one that says so is from before time went back (H112).
--
-- KEYS 1 budgets (sorted set: name -> when it is full again, ms)
-- ARGV 1 how many budgets are kept at most before those with a stand-in share that one
--      then for each budget: name, size, interval (ms), its stand-in or ''
-- Returns 0, or the milliseconds until all of them have one to give.
local now, most = now_ms(), tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
local wait, taken = 0, {}
for i = 2, #ARGV, 4 do
  local name, size, interval, stand_in = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3]
  local full = redis.call('ZSCORE', KEYS[1], name)
  if not full and stand_in ~= '' and redis.call('ZCARD', KEYS[1]) >= most then
    name = stand_in
    full = redis.call('ZSCORE', KEYS[1], name)
  end
  local after = math.max(math.min(tonumber(full or 0), now + size * interval), now) + interval
  wait = math.max(wait, after - now - size * interval)
  taken[#taken + 1] = text(after)
  taken[#taken + 1] = name
end
if wait > 0 then return math.ceil(wait) end
redis.call('ZADD', KEYS[1], unpack(taken))
return 0
