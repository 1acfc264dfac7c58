-- ABSENT -> CLAIMED, or COMMITTED(n) -> COMMITTED(n) with a claim beside it (an allowed overwrite).
-- Also takes over a claim whose lease has passed: any digest takes a merely claimed one (nothing was sent), the same
-- digest an armed one (H62); another digest only after the quarantine, having seen that the upstream has no such tag.
--
-- KEYS 1 tag record  2 marks  3 pins  4 manifests  5 intents  6 outbox  7 claims (so that the sweep finds what is left)
-- ARGV 1 digest  2 token  3 lease (ms from now)  4 needs (space-separated digests)
--      5 generation that may be overwritten, 0 for a first push
--      6 token of the stale armed claim that the caller has resolved as absent upstream, or ''
--      7 quarantine (ms since it was armed, or a heal was sent)  8 event that closes the stale claim's intent, or ''
--      9 tag name  10 digest of that generation, or '' (a ledger that came back older may count anew, H102)
--      11 what time the caller expects  12 for how long it has seen the clock go evenly (ms; see `passed`)
-- Returns {status, now, record...}; status one of
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

local function take(state)
  repin_claim(pins, manifests, record, needs)
  redis.call('HDEL', key, unpack(CLAIM_FIELDS))
  forget_heals(key, record)
  redis.call('HSET', key, 'claim_state', state, 'claim_digest', digest, 'claim_token', token,
    'claim_lease', text(lease), 'claim_term', ARGV[3], 'claim_needs', needs)
  redis.call('ZADD', KEYS[7], text(lease), ARGV[9])
  if state == 'armed' then redis.call('HSET', key, 'claim_armed', record.claim_armed, 'claim_event', record.claim_event) end
  return reply(state == 'armed' and 'RESUMED' or 'CLAIMED', key, now)
end

if record.claim_token == token then
  return reply(record.claim_state == 'armed' and 'RESUMED' or 'CLAIMED', key, now)
end
local judged = tonumber(ARGV[5]) == tonumber(record.generation or 0) and ARGV[10] == (record.digest or '')
if (record.digest or record.deleted) and not judged then
  return reply(record.digest and 'COMMITTED' or 'DELETED', key, now)
end
if record.claim_state and not is_over(record, now, at, watched) then return reply('BUSY', key, now) end
if is_healing(record, now, at, watched, tonumber(ARGV[7])) then return reply('BUSY', key, now) end
if marked(marks, needs) then return reply('DELETING', key, now) end
if record.claim_state ~= 'armed' then return take('claimed') end
if record.claim_digest == digest then return take('armed') end
if ARGV[6] == record.claim_token and passed(tonumber(record.claim_armed), now, at, watched) >= tonumber(ARGV[7]) then
  if redis.call('HDEL', intents, record.claim_event) == 1 then publish(outbox, ARGV[8], now) end
  return take('claimed')
end
return reply('STALE', key, now)
