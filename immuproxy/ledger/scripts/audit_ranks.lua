-- How many events of each posting lie before each of some times.  Reads only.
--
-- KEYS 1.. postings
-- ARGV 1.. times in milliseconds, ascending
-- Returns for each posting a list: the number before the first time, before the second, ..., and last its length.
local CHUNK = 64

local function ms_of(run, index)
  local high, low = struct.unpack('>I2I4', run, index * 8 + 1)
  return high * 4294967296 + low
end

-- The first position from `low` on (of `high`) whose time is at or after `time`.
local function rank(key, low, high, time)
  while high - low > CHUNK do
    local middle = math.floor((low + high) / 2)
    if ms_of(redis.call('GETRANGE', key, middle * 8, middle * 8 + 7), 0) < time then low = middle + 1 else high = middle end
  end
  if low == high then return low end
  local run, from = redis.call('GETRANGE', key, low * 8, high * 8 - 1), low
  while low < high do
    local middle = math.floor((low + high) / 2)
    if ms_of(run, middle - from) < time then low = middle + 1 else high = middle end
  end
  return low
end

local answer = {}
for k = 1, #KEYS do
  local length, ranks = math.floor(redis.call('STRLEN', KEYS[k]) / 8), {}
  local low = 0
  for i = 1, #ARGV do
    low = rank(KEYS[k], low, length, tonumber(ARGV[i]))
    ranks[i] = low
  end
  ranks[#ARGV + 1] = length
  answer[k] = ranks
end
return answer
