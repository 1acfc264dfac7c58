-- Enter tags into the index of who holds what: those of a ledger that is older than the index.
--
-- KEYS 1 holders  2.. records of tags
-- ARGV 1.. the names of those tags
-- Returns how many were entered anew.
local entered = 0
for i = 2, #KEYS do
  local record = {digest = redis.call('HGET', KEYS[i], 'digest')}
  if record.digest then entered = entered + redis.call('ZADD', KEYS[1], 0, holding(record, ARGV[i - 1])) end
end
return entered
