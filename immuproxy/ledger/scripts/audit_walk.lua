-- The events that stand in every group of postings and may match, newest first.  Reads only.
--
-- KEYS 1 events (stream)  2.. postings, group after group (a group is the union of its postings)
-- ARGV 1 upper bound, inclusive, as milliseconds  2 and its sequence
--      3 lower bound in milliseconds, inclusive
--      4 how many events are wanted at most  5 how many are read at most  6 how much work with postings at most
--      7 the number of groups, at least one, then the number of postings of each
--      then the number of requirements, and of each the number of its spellings and the spellings, in lower case:
--      an event in the field "event" is wanted when, in lower case, one spelling of each occurs in it; others always are
-- Returns {status, ms, seq, read, work, entries}: "more" with the upper bound to go on from, or "end" when nothing is
-- left above the lower bound; how many events were read and how much work was done; each entry is its id and what is
-- written.  What was pruned meanwhile is left out.
--
-- Leapfrog: each group in turn says which of its ids is the greatest not above the candidate, until all agree.  Small
-- groups are asked first.  A group of many postings that costs more than it spares is not asked any more: so an entry
-- may be in the answer that does not stand in it.
local events = KEYS[1]
local bound_ms, bound_seq = tonumber(ARGV[1]), tonumber(ARGV[2])
local floor_ms = tonumber(ARGV[3])
local limit, readable, workable = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local read, work = 0, 0
local MOST_SEQ = 65535
local CHUNK = 32
local TRIES, MOST_MOVES = 16, 4 -- moving a cursor costs about half of reading an event

local function text(number) return string.format('%.0f', number) end
local function format_id(ms, seq) return text(ms) .. '-' .. text(seq) end

local function before(ms, seq)
  if seq > 0 then return ms, seq - 1 end
  return ms - 1, MOST_SEQ
end

local function above(ms, seq, than_ms, than_seq)
  return ms > than_ms or (ms == than_ms and seq > than_seq)
end

local at = 7
local function take()
  at = at + 1
  return ARGV[at - 1]
end

-- What is wanted ------------------------------------------------------------------------------------------------------

local sizes, requirements = {}, {}
for g = 1, tonumber(take()) do sizes[g] = tonumber(take()) end
for r = 1, tonumber(take()) do
  requirements[r] = {}
  for s = 1, tonumber(take()) do requirements[r][s] = take() end
end

local function occurs(spellings, lower)
  for s = 1, #spellings do
    if string.find(lower, spellings[s], 1, true) then return true end
  end
  return false
end

local function may_match(field, written)
  if #requirements == 0 or field ~= 'event' then return true end
  local lower = string.lower(written)
  for r = 1, #requirements do
    if not occurs(requirements[r], lower) then return false end
  end
  return true
end

local entries = {}
local function more() return {'more', text(bound_ms), text(bound_seq), read, work, entries} end
local function the_end() return {'end', '0', '0', read, work, entries} end

local function keep(entry)
  read = read + 1
  if entry and may_match(entry[2][1], entry[2][2]) then entries[#entries + 1] = {entry[1], entry[2][2]} end
end

-- Postings ------------------------------------------------------------------------------------------------------------

local function range(key, from, to)
  work = work + 1
  return redis.call('GETRANGE', key, from, to)
end

-- A cursor holds a run of ids of one posting: `run` has those from `from` to `from + #run / 8 - 1`, counted from 0;
-- `at` is the one it stands on.
local function decode(run, index)
  local high, low, seq = struct.unpack('>I2I4I2', run, index * 8 + 1)
  return high * 4294967296 + low, seq
end

local function stand(cursor, index)
  cursor.at = index
  cursor.ms, cursor.seq = decode(cursor.run, index - cursor.from)
end

-- A cursor on the newest id; nil for a posting without any.
local function open(key)
  local run = range(key, -8 * CHUNK, -1)
  local count = math.floor(#run / 8)
  if count == 0 then return nil end
  local length = count
  if count == CHUNK then
    work = work + 1
    length = math.floor(redis.call('STRLEN', key) / 8)
  end
  local cursor = {key = key, from = length - count, run = run}
  stand(cursor, length - 1)
  return cursor
end

-- The greatest place of a run that is not above the bound, at or above `low` and below `high`, which is above it.
local function search(run, low, high, ms, seq)
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    local its_ms, its_seq = decode(run, middle)
    if above(its_ms, its_seq, ms, seq) then high = middle else low = middle end
  end
  return low
end

local function is_above(cursor, index, ms, seq)
  local its_ms, its_seq = decode(range(cursor.key, index * 8, index * 8 + 7), 0)
  return above(its_ms, its_seq, ms, seq)
end

-- Bring the run that holds the greatest id not above the bound and stand there; false when there is none.  All of the
-- present run is above it.  First in growing steps towards the older end, then by halves.
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
  cursor.run = range(cursor.key, cursor.from * 8, high * 8 - 1)
  local index = search(cursor.run, -1, high - cursor.from, ms, seq)
  if index < 0 then return false end
  stand(cursor, cursor.from + index)
  return true
end

-- Stand on the greatest id not above the bound, which is below where the cursor stands; false when there is none.
local function seek(cursor, ms, seq)
  work = work + 2
  local high, step = cursor.at - cursor.from, 1
  local low = high - step
  while low >= 0 do
    local its_ms, its_seq = decode(cursor.run, low)
    if not above(its_ms, its_seq, ms, seq) then break end
    high, step = low, step * 2
    low = high - step
  end
  local index = search(cursor.run, math.max(low, -1), high, ms, seq)
  if index < 0 then return jump(cursor, ms, seq) end
  stand(cursor, cursor.from + index)
  return true
end

-- A group is a heap of cursors, the one with the greatest id on top: bounds only ever fall, so only those above the
-- bound are ever touched.
local function sink(group, index)
  local cursor, size = group[index], #group
  while true do
    local child = 2 * index
    if child > size then break end
    local lower = group[child]
    if child < size and above(group[child + 1].ms, group[child + 1].seq, lower.ms, lower.seq) then
      child = child + 1
      lower = group[child]
    end
    if not above(lower.ms, lower.seq, cursor.ms, cursor.seq) then break end
    group[index] = lower
    index = child
  end
  group[index] = cursor
end

local function greatest(group, ms, seq)
  local top = group[1]
  group.tries = group.tries + 1
  while top and above(top.ms, top.seq, ms, seq) do
    group.moves = group.moves + 1
    if not seek(top, ms, seq) then
      group[1] = group[#group]
      group[#group] = nil
    end
    if group[1] then sink(group, 1) end
    top = group[1]
  end
  return top
end

local function opened(key, count)
  local group = {tries = 0, moves = 0, many = count > 1}
  for k = key, key + count - 1 do group[#group + 1] = open(KEYS[k]) end
  for i = math.floor(#group / 2), 1, -1 do sink(group, i) end
  group.moves = -#group -- the first time, all of them may have to move
  return group
end

local function costs_too_much(group)
  return group.many and group.tries >= TRIES and group.moves > MOST_MOVES * group.tries
end

local groups, key = {}, 2
for g = 1, #sizes do
  groups[g] = opened(key, sizes[g])
  key = key + sizes[g]
end
table.sort(groups, function(one, other) return #one < #other end)

-- Bring the bound down to the next id on which all groups agree; false when there is none, or the work is done.  After
-- each fall the smaller groups are asked first.
local ended = false
local function agree()
  local g, mover = 1, 0
  while g <= #groups do
    if work >= workable then return false end
    if g ~= mover then
      local best = greatest(groups[g], bound_ms, bound_seq)
      if not best or best.ms < floor_ms then
        ended = true
        return false
      end
      local fell = best.ms ~= bound_ms or best.seq ~= bound_seq
      if fell then bound_ms, bound_seq = best.ms, best.seq end
      if g > 1 and costs_too_much(groups[g]) then
        table.remove(groups, g)
        g, mover = 0, 0
      elseif fell then
        g, mover = 0, g
      end
    end
    g = g + 1
  end
  return true
end

while #entries < limit and read < readable and agree() do
  local id = format_id(bound_ms, bound_seq)
  keep(redis.call('XRANGE', events, id, id)[1])
  bound_ms, bound_seq = before(bound_ms, bound_seq)
end
if ended or bound_ms < floor_ms then return the_end() end
return more()
