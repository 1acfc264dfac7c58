-- How many events of each posting lie before each of some times.  Reads only.
--
-- KEYS 1.. postings
-- ARGV 1.. times in milliseconds, ascending
-- Returns for each posting a list: the number before the first time, before the second, ..., and last its length.
--
-- Events come evenly enough for the place of a time to be guessed; every other guess is the middle, so that no posting
-- takes more than twice the steps of halving.  Recent times are found in the newest ids, which are read first.
local CHUNK = 64

local function ms_of(run, index)
  local high, low = struct.unpack('>I2I4', run, index * 8 + 1)
  return high * 4294967296 + low
end

-- The first of the ids of a run, counted from 0, whose time is at or after `time`; its length when there is none.
local function within(run, time)
  local low, high = 0, #run / 8
  while low < high do
    local middle = math.floor((low + high) / 2)
    if ms_of(run, middle) < time then low = middle + 1 else high = middle end
  end
  return low
end

-- The same in a posting, from position `low` (not before `low_ms`) to before `high` (not after `high_ms`).
local function rank(key, low, low_ms, high, high_ms, time)
  local halve = false
  while high > low do
    local from = low
    if high - low > CHUNK then
      local share = (halve or high_ms <= low_ms) and 0.5 or (time - low_ms) / (high_ms - low_ms)
      local guess = low + math.floor(share * (high - low)) - CHUNK / 2
      from = math.max(low, math.min(guess, high - CHUNK))
      halve = not halve
    end
    local run = redis.call('GETRANGE', key, from * 8, (math.min(from + CHUNK, high)) * 8 - 1)
    local count = #run / 8
    local found = within(run, time)
    if found > 0 and found < count then return from + found end
    if found == 0 then
      high, high_ms = from, ms_of(run, 0)
    else
      low, low_ms = from + count, ms_of(run, count - 1)
    end
  end
  return low
end

local function ranks_of(key)
  local newest = redis.call('GETRANGE', key, -8 * CHUNK, -1)
  local count = #newest / 8
  local length, oldest_ms = count, 0
  if count == CHUNK then length = redis.call('STRLEN', key) / 8 end
  if length > CHUNK then oldest_ms = ms_of(redis.call('GETRANGE', key, 0, 7), 0) end
  local ranks, low, low_ms = {}, 0, oldest_ms
  for i = 1, #ARGV do
    local time = tonumber(ARGV[i])
    if length == count or ms_of(newest, 0) < time then
      ranks[i] = length - count + within(newest, time)
    elseif time <= oldest_ms then
      ranks[i] = 0
    else
      low = rank(key, low, low_ms, length - count, ms_of(newest, 0), time)
      low_ms, ranks[i] = time, low
    end
  end
  ranks[#ARGV + 1] = length
  return ranks
end

local answer = {}
for k = 1, #KEYS do
  answer[k] = #ARGV > 0 and ranks_of(KEYS[k]) or {redis.call('STRLEN', KEYS[k]) / 8}
end
return answer
