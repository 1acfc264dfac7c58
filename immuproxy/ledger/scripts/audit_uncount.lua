-- Forget the counts of one day: out of its week's, and its own.
--
-- KEYS 1.. the day's counters and their week's in turn, as many as ARGV 1 says of each, then counters of its hours
-- ARGV 1 how many counters a day has
-- Returns how many of the day's counters there were.  What was forgotten before is left as it is.
local days = tonumber(ARGV[1])
local found = 0
for i = 1, 2 * days, 2 do
  local day, week = KEYS[i], KEYS[i + 1]
  if redis.call('EXISTS', day) == 1 then
    found = found + 1
    redis.call('ZUNIONSTORE', week, 2, week, day, 'WEIGHTS', 1, -1)
    redis.call('ZREMRANGEBYSCORE', week, '-inf', 0)
    redis.call('UNLINK', day)
  end
end
for i = 2 * days + 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
return found
