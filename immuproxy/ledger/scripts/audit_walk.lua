-- The events that stand in every group of postings, newest first.  Reads only.
--
-- KEYS 1 events (stream)  2.. postings, group after group (a group is the union of its postings)
-- ARGV 1 upper bound, inclusive, as milliseconds  2 and its sequence
--      3 lower bound in milliseconds, inclusive
--      4 how many events at most  5 how many readings of postings at most
--      6.. the number of postings of each group, at least one group
-- Returns {status, ms, seq, readings, entries}: "more" with the upper bound to go on from, or "end" when nothing is
-- left above the lower bound; readings is how many were made.  Entries are as XRANGE answers them; what was pruned
-- meanwhile is left out.
--
-- Leapfrog: each group in turn says which of its ids is the greatest not above the candidate, until all agree.
local events = KEYS[1]
local bound_ms, bound_seq = tonumber(ARGV[1]), tonumber(ARGV[2])
local floor_ms = tonumber(ARGV[3])
local limit, allowed = tonumber(ARGV[4]), tonumber(ARGV[5])
local readings = 0
local MOST_SEQ = 65535
local CHUNK = 32

local function text(number) return string.format('%.0f', number) end
local function format_id(ms, seq) return text(ms) .. '-' .. text(seq) end

local function before(ms, seq)
  if seq > 0 then return ms, seq - 1 end
  return ms - 1, MOST_SEQ
end

local function above(ms, seq, than_ms, than_seq)
  return ms > than_ms or (ms == than_ms and seq > than_seq)
end

local function read(key, from, to)
  readings = readings + 1
  return redis.call('GETRANGE', key, from, to)
end

-- A cursor holds a run of ids of one posting: `run` has those from `from` to `from + #run / 8 - 1`, counted from 0;
-- `at` is the one it stands on.
local function decode(run, index)
  local high, low, seq = struct.unpack('>I2I4I2', run, index * 8 + 1)
  return high * 4294967296 + low, seq
end

local function stand(cursor, at)
  cursor.at = at
  cursor.ms, cursor.seq = decode(cursor.run, at - cursor.from)
end

-- A cursor on the newest id; nil for a posting without any.
local function open(key)
  local run = read(key, -8 * CHUNK, -1)
  local count = math.floor(#run / 8)
  if count == 0 then return nil end
  local length = count
  if count == CHUNK then
    readings = readings + 1
    length = math.floor(redis.call('STRLEN', key) / 8)
  end
  local cursor = {key = key, from = length - count, run = run}
  stand(cursor, length - 1)
  return cursor
end

local function is_above(cursor, index, ms, seq)
  local its_ms, its_seq = decode(read(cursor.key, index * 8, index * 8 + 7), 0)
  return above(its_ms, its_seq, ms, seq)
end

-- Bring the run that holds the greatest id not above the bound; false when there is none.  All of the present run is
-- above it.  First in growing steps towards the older end, then by halves.
local function jump(cursor, ms, seq)
  local high, step = cursor.from, CHUNK
  local low = high - step
  while low >= 0 and is_above(cursor, low, ms, seq) do
    high, step = low, step * 2
    low = high - step
  end
  low = math.max(low, -1)
  while high - low > CHUNK do
    local middle = math.floor((low + high) / 2)
    if is_above(cursor, middle, ms, seq) then high = middle else low = middle end
  end
  if high == 0 then return false end
  cursor.from = math.max(0, high - CHUNK)
  cursor.run = read(cursor.key, cursor.from * 8, high * 8 - 1)
  cursor.at = high - 1
  local first_ms, first_seq = decode(cursor.run, 0)
  return not above(first_ms, first_seq, ms, seq)
end

-- Stand on the greatest id not above the bound, which is below where the cursor stands; false when there is none.
local function seek(cursor, ms, seq)
  local first_ms, first_seq = decode(cursor.run, 0)
  if above(first_ms, first_seq, ms, seq) and not jump(cursor, ms, seq) then return false end
  local low, high = 0, cursor.at - cursor.from
  while low < high do
    local middle = math.ceil((low + high) / 2)
    local middle_ms, middle_seq = decode(cursor.run, middle)
    if above(middle_ms, middle_seq, ms, seq) then high = middle - 1 else low = middle end
  end
  stand(cursor, cursor.from + low)
  return true
end

-- A group is a heap of cursors, the one with the greatest id on top: bounds only ever fall, so only those above the
-- bound are ever touched.
local function sink(group, at)
  local cursor, size = group[at], #group
  while true do
    local child = 2 * at
    if child > size then break end
    local lower = group[child]
    if child < size and above(group[child + 1].ms, group[child + 1].seq, lower.ms, lower.seq) then
      child = child + 1
      lower = group[child]
    end
    if not above(lower.ms, lower.seq, cursor.ms, cursor.seq) then break end
    group[at] = lower
    at = child
  end
  group[at] = cursor
end

local function greatest(group, ms, seq)
  local top = group[1]
  while top and above(top.ms, top.seq, ms, seq) do
    if not seek(top, ms, seq) then
      group[1] = group[#group]
      group[#group] = nil
    end
    if group[1] then sink(group, 1) end
    top = group[1]
  end
  return top
end

local groups, key = {}, 1
for g = 6, #ARGV do
  local group = {}
  for _ = 1, tonumber(ARGV[g]) do
    key = key + 1
    group[#group + 1] = open(KEYS[key])
  end
  for i = math.floor(#group / 2), 1, -1 do sink(group, i) end
  groups[#groups + 1] = group
end

local entries = {}
local function more() return {'more', text(bound_ms), text(bound_seq), readings, entries} end
local function the_end() return {'end', '0', '0', readings, entries} end

while #entries < limit do
  if readings >= allowed then return more() end
  local agreed, g = 0, 1
  while agreed < #groups do
    local best = greatest(groups[g], bound_ms, bound_seq)
    if not best or best.ms < floor_ms then return the_end() end
    if best.ms == bound_ms and best.seq == bound_seq then
      agreed = agreed + 1
    else
      bound_ms, bound_seq, agreed = best.ms, best.seq, 1
    end
    g = g % #groups + 1
    if readings >= allowed and agreed < #groups then return more() end
  end
  local id = format_id(bound_ms, bound_seq)
  entries[#entries + 1] = redis.call('XRANGE', events, id, id)[1]
  bound_ms, bound_seq = before(bound_ms, bound_seq)
end
if bound_ms < floor_ms then return the_end() end
return more()
