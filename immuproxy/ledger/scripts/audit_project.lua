-- Take a batch of events into the audit: the stream, the indexes, the value lists and the hourly counts, in one step.
--
-- KEYS 1 events (stream)  2 watermark (hash)  3 late (posting)  4.. whatever the events name by number
-- ARGV 1 repository, or '' for events that come from no outbox
--      2 the outbox id that the batch reaches to, or ''
--      then for each event
--        outbox id ('' when it comes from none), event id, time (ms)
--        field, and what is written to it: that begins with the event id and \31
--        N, then N key numbers                              postings; the first is the one of the event id
--        N, then N pairs key number, member                 sorted sets: member's last time
--        N, then N pairs key number, member                 sorted sets: one more of member
--        N, then N triples key number, tag, value           hashes: "time digest actor" of a tag that was set
-- Returns how many events were new.
--
-- Exactly once: what lies above the repository's watermark is new.  At or below it, and without an outbox, an event is
-- taken only when its id is not held yet; so neither a repeated batch, nor two projectors at once, nor an outbox whose
-- ids began again from an earlier time adds or loses an event.
--
-- An entry's id is the event's own time, or, where that would break the order, the time of the entry before it.
-- A posting is a string of 8 bytes an event: 48 bits of milliseconds and 16 bits of sequence, big-endian, ascending.
-- Ids are compared as numbers: Lua compares strings by the server's locale.
local events, watermark, late = KEYS[1], KEYS[2], KEYS[3]
local LATE_MS = 2000
local MOST_SEQ = 65535
local MOST_CHECKED = 256

local function parse_id(text)
  local ms, seq = string.match(text or '', '^(%d+)%-(%d+)$')
  return tonumber(ms) or 0, tonumber(seq) or 0
end

local function format_id(ms, seq) return string.format('%.0f-%.0f', ms, seq) end

local function last_generated()
  if redis.call('EXISTS', events) == 0 then return 0, 0 end
  local info = redis.call('XINFO', 'STREAM', events)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return parse_id(info[i + 1]) end
  end
  return 0, 0
end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local last_ms, last_seq = last_generated()

local function next_id(time)
  local ms = math.max(last_ms, math.min(time, now))
  local seq = ms > last_ms and 0 or last_seq + 1
  if seq > MOST_SEQ then ms, seq = ms + 1, 0 end
  last_ms, last_seq = ms, seq
  return ms, seq
end

local function held(posting, event_id)
  local ids = redis.call('GET', posting) or ''
  for at = #ids - 7, math.max(1, #ids - 8 * MOST_CHECKED + 1), -8 do
    local high, low, seq = struct.unpack('>I2I4I2', ids, at)
    local id = format_id(high * 4294967296 + low, seq)
    local entry = redis.call('XRANGE', events, id, id)[1]
    if entry and string.sub(entry[2][2], 1, #event_id + 1) == event_id .. '\31' then return true end
  end
  return false
end

local at = 3
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local function take_numbers()
  local list = {}
  for i = 1, tonumber(take()) do list[i] = tonumber(take()) end
  return list
end

local function take_pairs()
  local list = {}
  for i = 1, tonumber(take()) do list[i] = {KEYS[tonumber(take())], take()} end
  return list
end

local function take_triples()
  local list = {}
  for i = 1, tonumber(take()) do list[i] = {KEYS[tonumber(take())], take(), take()} end
  return list
end

-- A tag is set by the event that changed its digest: the same digest again, and what comes late, leave it as it is.
local function set(key, tag, value)
  local known = redis.call('HGET', key, tag)
  if known then
    local known_time, known_digest = string.match(known, '^(%d+) (%S+)')
    local time, digest = string.match(value, '^(%d+) (%S+)')
    if digest == known_digest or tonumber(time) < tonumber(known_time) then return end
  end
  redis.call('HSET', key, tag, value)
end

local mark_ms, mark_seq = 0, 0
if ARGV[1] ~= '' then mark_ms, mark_seq = parse_id(redis.call('HGET', watermark, ARGV[1]) or '') end

local function above_mark(outbox_id)
  if outbox_id == '' then return false end
  local ms, seq = parse_id(outbox_id)
  return ms > mark_ms or (ms == mark_ms and seq > mark_seq)
end

local added = 0
while at <= #ARGV do
  local outbox_id, event_id, time, field, written = take(), take(), tonumber(take()), take(), take()
  local postings, lasts, counts = take_numbers(), take_pairs(), take_pairs()
  local sets = take_triples()
  if above_mark(outbox_id) or not held(KEYS[postings[1]], event_id) then
    local ms, seq = next_id(time)
    redis.call('XADD', events, format_id(ms, seq), field, written)
    local id = struct.pack('>I2I4I2', math.floor(ms / 4294967296), ms % 4294967296, seq)
    for i = 1, #postings do redis.call('APPEND', KEYS[postings[i]], id) end
    if ms - time > LATE_MS then redis.call('APPEND', late, id) end
    for i = 1, #lasts do redis.call('ZADD', lasts[i][1], string.format('%.0f', ms), lasts[i][2]) end
    for i = 1, #counts do redis.call('ZINCRBY', counts[i][1], 1, counts[i][2]) end
    for i = 1, #sets do set(sets[i][1], sets[i][2], sets[i][3]) end
    added = added + 1
  end
end
if ARGV[2] ~= '' and above_mark(ARGV[2]) then redis.call('HSET', watermark, ARGV[1], ARGV[2]) end
return added
