-- Forget some values that had no event since a time; what has had one meanwhile stays.
--
-- KEYS 1 values or tags (sorted set: last times)
-- ARGV 1 milliseconds  2.. the values
-- Returns how many were forgotten.
local removed = 0
for i = 2, #ARGV do
  local last = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if last and tonumber(last) < tonumber(ARGV[1]) then removed = removed + redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return removed
