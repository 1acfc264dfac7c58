-- ABSENT -> CLAIMED, or COMMITTED(n) -> COMMITTED(n) with a claim beside it (an allowed overwrite).
-- Also takes over a claim whose lease has passed: any digest takes a merely claimed one (nothing was sent), the same
-- digest an armed one (H62); another digest only after the quarantine, having seen that the upstream has no such tag.
--
-- KEYS 1 tag record  2 marks  3 pins  4 manifests  5 intents  6 outbox  7 claims (so that the sweep finds what is left)
--      8 deletes  9 exceptions  10 adopted  11 moved
-- ARGV 1 digest  2 token  3 lease (ms from now)  4 needs (space-separated digests)
--      5 generation that may be overwritten, 0 for a first push
--      6 token of the stale armed claim that the caller has resolved as absent upstream, or ''
--      7 quarantine (ms since it was armed, or a heal was sent)  8 event that closes the stale claim's intent, or ''
--      9 tag name  10 digest of that generation, or '' (a ledger that came back older may count anew, H102)
--      11 what time the caller expects  12 for how long it has seen the clock go evenly (ms; see `passed`)
--      13 digests to look after, space-separated
--      14 what `adoption` said before all tags of the repository were adopted, or ''
-- Returns {status, now, record..., 'deletes', how many have ended, 'excepted', '1' where an exception of the tag has not
-- been ended, 'unattached', the digests to look after that something needs, and to which not all is attached that they
-- need (H81, H91), 'adopted', '1' where nothing of the repository was lost since the adoption that was given, and no rule let this
-- tag move when it was last pushed}; status one of
--   CLAIMED   the caller owns the claim (also when the same token asks again: a lost reply is harmless)
--   RESUMED   the caller took over an armed claim of its own digest; the PUT may be sent
--   COMMITTED the tag holds something, and the caller did not come to overwrite that generation
--   DELETED   a tombstone keeps the name taken, and the caller did not come to reuse it
--   BUSY      somebody's live claim, or a heal of what the tag holds that may still land (H121); wait
--   STALE     an armed claim without a living owner, of another digest; resolve it against the upstream
--   DELETING  a delete of something the manifest needs is under way; wait
local key, marks, pins, manifests, intents, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local digest, token, needs = ARGV[1], ARGV[2], ARGV[4]
local now, at, watched = now_ms(), tonumber(ARGV[11]), tonumber(ARGV[12])
local lease = now + tonumber(ARGV[3])
local record = read_record(key)

local function all_sha256(needs)
  for digest in string.gmatch(needs, '%S+') do
    if string.sub(digest, 1, 7) ~= 'sha256:' then return false end
  end
  return true
end

-- Before anything is pinned for the claim itself.
local function unattached()
  local found = {}
  by_some(ARGV[13], function(digests)
    for i, count in ipairs(redis.call('HMGET', pins, unpack(digests))) do
      local attached = count and redis.call('HGET', manifests, 'needs ' .. digests[i])
      -- What is named by another algorithm may not have been there when it was attached.
      if count and not (attached and all_sha256(attached)) then found[#found + 1] = digests[i] end
    end
  end)
  return table.concat(found, ' ')
end

local function is_adopted()
  if ARGV[14] == '' or (redis.call('GET', KEYS[10]) or '') .. ' ' .. history() ~= ARGV[14] then return '' end
  return redis.call('HEXISTS', KEYS[11], ARGV[9]) == 0 and '1' or ''
end

local beside = {
  deletes = redis.call('GET', KEYS[8]) or '0',
  excepted = text(redis.call('HEXISTS', KEYS[9], ARGV[9])),
  unattached = unattached(),
  adopted = is_adopted(),
}

local function answer(status)
  local told = reply(status, key, now)
  for name, value in pairs(beside) do
    told[#told + 1], told[#told + 2] = name, value
  end
  return told
end

local function take(state)
  repin_claim(pins, manifests, record, needs)
  redis.call('HDEL', key, unpack(CLAIM_FIELDS))
  forget_heals(key, record)
  redis.call('HSET', key, 'claim_state', state, 'claim_digest', digest, 'claim_token', token,
    'claim_lease', text(lease), 'claim_term', ARGV[3], 'claim_needs', needs)
  redis.call('ZADD', KEYS[7], text(lease), ARGV[9])
  if state == 'armed' then redis.call('HSET', key, 'claim_armed', record.claim_armed, 'claim_event', record.claim_event) end
  return answer(state == 'armed' and 'RESUMED' or 'CLAIMED')
end

if record.claim_token == token then
  return answer(record.claim_state == 'armed' and 'RESUMED' or 'CLAIMED')
end
local judged = tonumber(ARGV[5]) == tonumber(record.generation or 0) and ARGV[10] == (record.digest or '')
if (record.digest or record.deleted) and not judged then
  return answer(record.digest and 'COMMITTED' or 'DELETED')
end
if record.claim_state and not is_over(record, now, at, watched) then return answer('BUSY') end
if is_healing(record, now, at, watched, tonumber(ARGV[7])) then return answer('BUSY') end
if marked(marks, needs) then return answer('DELETING') end
if record.claim_state ~= 'armed' then return take('claimed') end
if record.claim_digest == digest then return take('armed') end
if ARGV[6] == record.claim_token and passed(tonumber(record.claim_armed), now, at, watched) >= tonumber(ARGV[7]) then
  if redis.call('HDEL', intents, record.claim_event) == 1 then publish(outbox, ARGV[8], now) end
  return take('claimed')
end
return answer('STALE')
