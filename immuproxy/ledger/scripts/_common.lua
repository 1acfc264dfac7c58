-- Shared by every script of the register; put in front of each by store/scripts.py, behind the one of the store.
--
-- A tag's record is one hash.  Its committed part: digest, generation, needs and what the console shows.
-- Its claim part, all fields prefixed "claim_": state (claimed | armed), digest, token, lease (deadline, ms),
-- term (how long before that it began, ms), armed (ms), event, needs.  Both may be there at once: an allowed overwrite under way.
-- Its tombstone: deleted (ms), deleted_digest, deleted_by.
-- Its heals, one field each: heal_<name> (ms), when a PUT of what the tag holds may have been sent upstream once more.

-- A script has no way back, so a key of a wrong type is found before anything is written (H70).
local KINDS = {
  tag = 'hash', tags = 'zset', holders = 'zset', pins = 'hash', manifests = 'hash', marks = 'zset', intents = 'hash', outbox = 'stream',
  drift = 'hash', exceptions = 'hash', claims = 'zset', deletes = 'string', adopted = 'string', moving = 'zset', moved = 'hash', floor = 'string',
  late = 'zset', unproved = 'hash', clock = 'hash', repositories = 'set', lineage = 'hash', beats = 'zset',
}
for _, key in ipairs(KEYS) do
  local kind, found = KINDS[string.match(key, '}:(%l+)') or string.match(key, ':(%l+)$')], redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('WRONGTYPE ' .. key .. ' holds a ' .. found)
  end
end

local CLAIM_FIELDS = {'claim_state', 'claim_digest', 'claim_token', 'claim_lease', 'claim_term', 'claim_armed', 'claim_event', 'claim_needs'}

local HEAL = 'heal_'

-- Bytes of event ids kept of what the tag held before: about ten.
local TOLD_LENGTH = 300

-- What changes whenever this server may have lost the end of what it was told: with each start, and each promotion of a
-- replica ("Replication ID", Redis manual).
local function history()
  local told = redis.call('INFO', 'server', 'replication')
  return string.match(told, 'run_id:(%x+)') .. ' ' .. string.match(told, 'master_replid:(%x+)')
end

-- How long ago `since` was, at least (ms).  `at`: what time the caller expects by its own clock; `watched`: for how long
-- it has seen this clock go evenly.  What is dated from now is from before time went back, so it is there since then; but
-- not where the caller does not know that yet.  `Ages` in ledger/watch.py is the same (H112).
local JITTER_MS = 1000

local function passed(since, now, at, watched)
  if since > now + JITTER_MS then return at > now + JITTER_MS and 0 or watched end
  return math.max(0, math.min(now - since, at - since, watched))
end

-- Whether a claim's owner has had all of its time.  One without a term is of a proxy that did not write it.
local function is_over(record, now, at, watched)
  local lease, term = tonumber(record.claim_lease), tonumber(record.claim_term)
  if not term then return lease <= now end
  return passed(lease - term, now, at, watched) >= term
end

-- Whether what a heal has sent may still land (H121); `quarantine`: how long that takes at most (ms).
local function is_healing(record, now, at, watched, quarantine)
  for name, since in pairs(record) do
    if string.sub(name, 1, #HEAL) == HEAL and passed(tonumber(since), now, at, watched) < quarantine then return true end
  end
  return false
end

local function forget_heals(key, record)
  for name in pairs(record) do
    if string.sub(name, 1, #HEAL) == HEAL then redis.call('HDEL', key, name) end
  end
end

local function read_record(key)
  local flat = redis.call('HGETALL', key)
  local record = {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

-- Status and time first, then the record without its (long) needs.
local function reply(status, key, now)
  local answer = {status, text(now)}
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if flat[i] ~= 'needs' and flat[i] ~= 'claim_needs' then
      answer[#answer + 1] = flat[i]
      answer[#answer + 1] = flat[i + 1]
    end
  end
  return answer
end

-- Needs can be thousands of digests, each of them once: they are counted some hundred in a call (H85).
local NEEDS_A_CALL = 500

local function by_some(needs, count)
  local some = {}
  for digest in string.gmatch(needs or '', '%S+') do
    some[#some + 1] = digest
    if #some == NEEDS_A_CALL then
      count(some)
      some = {}
    end
  end
  if #some > 0 then count(some) end
end

local function pin(pins, needs)
  by_some(needs, function(digests)
    local counts, pairs = redis.call('HMGET', pins, unpack(digests)), {}
    for i, digest in ipairs(digests) do
      pairs[2 * i - 1], pairs[2 * i] = digest, text((tonumber(counts[i]) or 0) + 1)
    end
    redis.call('HSET', pins, unpack(pairs))
  end)
end

-- Pin what a pinned manifest needs for as long as it is pinned itself, each digest once (H91).
local function attach(pins, manifests, digest, needs)
  local name = 'needs ' .. digest
  local before = redis.call('HGET', manifests, name)
  local known, all, more = {[digest] = true}, {}, {}
  for need in string.gmatch(before or '', '%S+') do
    known[need], all[#all + 1] = true, need
  end
  for need in string.gmatch(needs, '%S+') do
    if not known[need] then
      known[need], all[#all + 1], more[#more + 1] = true, need, need
    end
  end
  if before and #more == 0 then return end
  pin(pins, table.concat(more, ' '))
  redis.call('HSET', manifests, name, table.concat(all, ' '))
end

-- What was attached to digests that nothing needs any more is unpinned later where it is much: thousands of digests for
-- each of a thousand children would hold Redis for seconds (H85).  Until then it counts as needed.
local FREED = 'freed'
local FREED_A_STEP = 1000

-- Returns how many digests that were; those to which something was attached come into `freed`.
local function unpin_each(pins, manifests, needs, freed)
  local looked = 0
  by_some(needs, function(digests)
    looked = looked + #digests
    local counts, still, gone = redis.call('HMGET', pins, unpack(digests)), {}, {}
    for i, digest in ipairs(digests) do
      local count = (tonumber(counts[i]) or 0) - 1
      if count > 0 then
        still[#still + 1], still[#still + 2] = digest, text(count)
      else
        gone[#gone + 1] = digest
        if redis.call('HEXISTS', manifests, 'needs ' .. digest) == 1 then freed[#freed + 1] = digest end
      end
    end
    if #still > 0 then redis.call('HSET', pins, unpack(still)) end
    if #gone > 0 then
      redis.call('HDEL', pins, unpack(gone))
      redis.call('HDEL', manifests, unpack(gone))
    end
  end)
  return looked
end

-- Unpin what is attached to digests that have been freed, until it is enough for one step.  What is needed again by then
-- keeps what is attached to it.  Returns whether more is left.
local function free(pins, manifests, freed, looked)
  for digest in string.gmatch(redis.call('HGET', manifests, FREED) or '', '%S+') do freed[#freed + 1] = digest end
  if #freed == 0 then return false end
  while #freed > 0 and looked < FREED_A_STEP do
    local digest = table.remove(freed)
    local name = 'needs ' .. digest
    local needs = redis.call('HEXISTS', pins, digest) == 0 and redis.call('HGET', manifests, name)
    if needs then
      redis.call('HDEL', manifests, name)
      looked = looked + unpin_each(pins, manifests, needs, freed)
    end
  end
  if #freed > 0 then redis.call('HSET', manifests, FREED, table.concat(freed, ' ')) else redis.call('HDEL', manifests, FREED) end
  return #freed > 0
end

-- Whatever nothing needs any more is forgotten, and so are its stored bytes and what was attached to it.
local function unpin(pins, manifests, needs)
  if not needs or needs == '' then return end
  local freed = {}
  free(pins, manifests, freed, unpin_each(pins, manifests, needs, freed))
end

-- A mark counts until the outcome of its delete is known, also after its deadline; the sweep sees to that.
local function marked(marks, needs)
  if redis.call('ZCARD', marks) == 0 then return false end
  local found = false
  by_some(needs, function(digests)
    for _, score in ipairs(redis.call('ZMSCORE', marks, unpack(digests))) do
      found = found or score
    end
  end)
  return found and true
end

-- An event, a JSON object, with its time in front: `now`, unless it brings that of what it tells of late (H115).
local function stamped(event, now)
  if string.sub(event, 1, 8) == '{"time":' then return event end
  return '{"time":' .. text(now) .. ',' .. string.sub(event, 2)
end

-- Append an event in the same step as the change it tells of.  An outbox that was emptied is gone, and with it the memory
-- of the ids it gave out; so each has a life, named by its first event, within which ids only grow.  As projectors delete
-- by id, that event makes the first id one of its own, too.
local function publish(outbox, event, now)
  if event == '' then return end
  local first = redis.call('XRANGE', outbox, '-', '+', 'COUNT', 1)[1]
  if first then
    redis.call('XADD', outbox, '*', 'event', stamped(event, now), 'life', first[2][4] or '')
  else
    redis.call('DEL', outbox)  -- one without entries, which others left, knows its last id
    local life = string.sub(redis.sha1hex(event), 1, 12)
    redis.call('XADD', outbox, text(now) .. '-' .. text(tonumber(life, 16)), 'event', stamped(event, now), 'life', life)
  end
end

local function drop_claim(key, pins, manifests, record)
  unpin(pins, manifests, record.claim_needs)
  redis.call('HDEL', key, unpack(CLAIM_FIELDS))
end

-- Whether the tag came to hold what it holds, or lately held, by this event: its claim may have been finished by others.
local function was_told(record, id)
  return string.find((record.told or '') .. ' ' .. (record.event or '') .. ' ', ' ' .. id .. ' ', 1, true) ~= nil
end

-- A tag's place in the index of who holds what (ledger/holders.py).
local function holding(record, name)
  return record.digest .. ' ' .. name
end

-- A tag that no rule holds is forgotten by what it was last pushed with.
local function forget_moved(moving, moved, name)
  local digest = redis.call('HGET', moved, name)
  if digest then
    redis.call('ZREM', moving, holding({digest = digest}, name))
    redis.call('HDEL', moved, name)
  end
end

-- A PUT of ours by its tag and content, as `late` names it (ledger/late.py).
local function put_of(name, digest)
  return name .. ' ' .. digest
end

-- The tag no longer holds the content, or waits for it, but a PUT of it that was sent at `sent` may be on its way (H110).
local function may_land(late, name, digest, sent)
  redis.call('ZADD', late.key, 'GT', text(tonumber(sent) + late.quarantine), put_of(name, digest))
end

-- A record goes, with all that it needs and claims.  Generations of the repository's new records begin above its own:
-- who has looked at it takes no later one for it (H102).  What it held may have been sent until now, to heal it.
local function drop_record(key, tags, holders, floor, late, pins, manifests, record, now, name)
  if record.digest then may_land(late, name, record.digest, now) end
  if record.claim_state == 'armed' then may_land(late, name, record.claim_digest, record.claim_armed) end
  unpin(pins, manifests, record.needs)
  unpin(pins, manifests, record.claim_needs)
  redis.call('DEL', key)
  redis.call('ZREM', tags, name)
  if record.digest then redis.call('ZREM', holders, holding(record, name)) end
  if tonumber(record.generation or 0) > tonumber(redis.call('GET', floor) or 0) then
    redis.call('SET', floor, record.generation)
  end
end

-- Pin `needs` instead of what the claim needs.  The same list needs nothing done, and lists can be long (H85).
local function repin_claim(pins, manifests, record, needs)
  if record.claim_needs == needs then return end
  pin(pins, needs)
  unpin(pins, manifests, record.claim_needs)
end

-- Make `digest` what the tag holds.  `fields` is a flat list of what the console shows.  What the claim has pinned
-- already becomes the tag's; the claim is still to be dropped.  Who else needs the digest may have come to need it while
-- it was not there, so what it needs must outlive the tag (H91).
local function hold(key, tags, holders, floor, late, pins, manifests, record, now, name, digest, needs, fields)
  if record.digest and record.digest ~= digest then may_land(late, name, record.digest, now) end
  if record.claim_needs == needs then record.claim_needs = nil else pin(pins, needs) end
  unpin(pins, manifests, record.needs)
  if record.event then
    redis.call('HSET', key, 'told', string.sub((record.told or '') .. ' ' .. record.event, -TOLD_LENGTH))
  end
  if not record.first then redis.call('HSET', key, 'first', text(now)) end
  redis.call('HDEL', key, 'deleted', 'deleted_digest', 'deleted_by')
  redis.call('ZADD', tags, now, name)
  if record.digest then redis.call('ZREM', holders, holding(record, name)) end
  redis.call('ZADD', holders, 0, holding({digest = digest}, name))
  local generation = tonumber(record.generation or redis.call('GET', floor) or 0) + 1
  if not record.digest then redis.call('HSET', key, 'born', generation) end
  redis.call('HSET', key, 'digest', digest, 'needs', needs, 'since', text(now), 'generation', generation, unpack(fields))
  local own = string.find(record.claim_needs or '', digest, 1, true) and 2 or 1
  if tonumber(redis.call('HGET', pins, digest) or 0) > own then attach(pins, manifests, digest, needs) end
end

local function slice(list, from, count)
  local part = {}
  for i = from, from + count - 1 do part[#part + 1] = list[i] end
  return part
end
