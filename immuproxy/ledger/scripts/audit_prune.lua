-- Cut the old end off some postings.
--
-- KEYS 1.. postings
-- ARGV 1 milliseconds: ids before it go
local before = tonumber(ARGV[1])

local function ms_at(key, index)
  local high, low = struct.unpack('>I2I4', redis.call('GETRANGE', key, index * 8, index * 8 + 5))
  return high * 4294967296 + low
end

local removed = 0
for k = 1, #KEYS do
  local key = KEYS[k]
  local length = math.floor(redis.call('STRLEN', key) / 8)
  local low, high = 0, length
  if length > 0 and ms_at(key, 0) >= before then high = 0 end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if ms_at(key, middle) < before then low = middle + 1 else high = middle end
  end
  if low == length and length > 0 then
    redis.call('UNLINK', key)
  elseif low > 0 then
    redis.call('SET', key, redis.call('GETRANGE', key, low * 8, -1))
  end
  removed = removed + low
end
return removed
