-- Take what the upstream shows into the ledger: ABSENT or CLAIMED -> COMMITTED(x), and the two ways of finishing an
-- armed claim that somebody else made: help (x is its digest) and resolve (it has no living owner).
--
-- KEYS 1 tag record  2 tags  3 pins  4 manifests  5 intents  6 outbox  7 marks  8 holders  9 floor  10 late
-- ARGV 1 token of the armed claim that the caller saw and, behind a blank, the event of its push, or ''
--      2 digest x  3 tag name  4 event  5 needs  6 quarantine (ms)
--      7 number N of field/value items that follow, 8.. the fields, then digest/bytes pairs; see commit.lua
--      last but four: what time the caller expects
--      last but three: for how long it has seen the clock go evenly (ms; see `passed`)
--      last but two: 1 where late writes are told from others, or 0
--      last but one: 1 where the name of a deleted tag may be used again, or 0
--      last: event that closes the intent of an armed claim of another digest, or ''
-- Returns {status, now, record...}; status
--   COMMITTED the tag holds something now: look at its digest
--   CHANGED   an armed claim stands that the caller did not see, or that still has its owner; look again.  Who takes a
--             claim over has its token before it is armed, and another push's event only then (H125)
--   DELETING  a delete of something that x needs is under way, so it is not taken in (H34)
--   LATE      x was sent before the tag was deleted or overwritten, and is not what the tag holds now (H110)
--   DELETED   the tag was deleted and its name stays taken: what shows under it came by another way
local key, tags, pins, manifests, intents, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now = now_ms()
local record = read_record(key)
local closing = ARGV[#ARGV]
local late = {key = KEYS[10], quarantine = tonumber(ARGV[6])}
local pending = record.claim_state == 'armed'
if record.digest and not pending then return reply('COMMITTED', key, now) end
if marked(KEYS[7], ARGV[5]) then return reply('DELETING', key, now) end
if ARGV[#ARGV - 2] == '1' and not (pending and record.claim_digest == ARGV[2]) and redis.call('ZSCORE', late.key, put_of(ARGV[3], ARGV[2])) then
  return reply('LATE', key, now)
end
if record.deleted and not pending and ARGV[#ARGV - 1] == '0' then return reply('DELETED', key, now) end
if pending then
  if record.claim_token .. ' ' .. (record.claim_event or '') ~= ARGV[1] then return reply('CHANGED', key, now) end
  local own = record.claim_digest == ARGV[2]
  local stale = is_over(record, now, tonumber(ARGV[#ARGV - 4]), tonumber(ARGV[#ARGV - 3]))
  -- A pending overwrite is committed by its owner; only when that owner is gone by anybody else.
  if not stale and (record.digest or not own) then return reply(record.digest and 'COMMITTED' or 'CHANGED', key, now) end
  if record.digest and not own then return reply('COMMITTED', key, now) end
  if redis.call('HDEL', intents, record.claim_event) == 1 and not own then publish(outbox, closing, now) end
  if not own then may_land(late, ARGV[3], record.claim_digest, record.claim_armed) end
end
local count = tonumber(ARGV[7])
for i = 8 + count, #ARGV - 5, 2 do redis.call('HSET', manifests, ARGV[i], ARGV[i + 1]) end
hold(key, tags, KEYS[8], KEYS[9], late, pins, manifests, record, now, ARGV[3], ARGV[2], ARGV[5], slice(ARGV, 8, count))
if record.claim_state then drop_claim(key, pins, manifests, record) end
publish(outbox, ARGV[4], now)
return reply('COMMITTED', key, now)
