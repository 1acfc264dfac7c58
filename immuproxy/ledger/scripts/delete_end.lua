-- The outcome of a delete: the mark goes, the event comes, and the records of the tags that went are dropped, each
-- leaving a tombstone where its rule keeps the name taken.  Each tag that went has an event as well (H100), and so has an
-- overwrite that was armed on it: its intent ends here, for nobody could tell later what became of it (H101).  What may
-- still arrive of either is remembered (H110).
--
-- KEYS 1 marks  2 intents  3 outbox  4 tags  5 pins  6 manifests  7 deletes (how many have ended)
--      8 holders  9 moving  10 moved  11 floor  12 late  13.. records of the tags that went
-- ARGV 1 digest, by all names that `delete_begin.lua` was given  2 event id  3 event  4 who deleted
--      5 quarantine (ms that a PUT may be on its way)
--      6.. for each record: tag name, digest it held, 1 for a tombstone or 0, event or '',
--          id of the armed overwrite that the caller saw and the event that ends it, or '' and ''
--      then for each tag that no rule holds: tag name, digest it was last pushed with ('' for any), event or ''
-- Returns nothing when the intent had its outcome already; CHANGED, and changes nothing, when an armed overwrite stands
-- that the caller did not see; else for each record, then for each tag that no rule holds,
-- 1 when it still held that digest, so that its event was written, or 0.
local FIRST_RECORD, FIRST_TOLD, A_RECORD = 13, 6, 6
local marks, intents, outbox, tags, pins, manifests = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now = now_ms()
if redis.call('HEXISTS', intents, ARGV[2]) == 1 then
  for i = FIRST_RECORD, #KEYS do
    local at = FIRST_TOLD + A_RECORD * (i - FIRST_RECORD)
    local held, armed = unpack(redis.call('HMGET', KEYS[i], 'digest', 'claim_event'))
    if held == ARGV[at + 1] and armed and armed ~= ARGV[at + 4] then return 'CHANGED' end
  end
end
local ended = 0
for digest in string.gmatch(ARGV[1], '%S+') do ended = ended + redis.call('ZREM', marks, digest) end
if ended > 0 then redis.call('INCR', KEYS[7]) end
if redis.call('HDEL', intents, ARGV[2]) == 0 then return false end
local late = {key = KEYS[12], quarantine = tonumber(ARGV[5])}
local went, at = {}, FIRST_TOLD

local function take()
  at = at + 1
  return ARGV[at - 1]
end

for i = FIRST_RECORD, #KEYS do
  local name, held, tombstone, event, armed, cut_off = take(), take(), take(), take(), take(), take()
  local record = read_record(KEYS[i])
  local goes = record.digest == held
  went[#went + 1] = goes and 1 or 0
  if goes then
    if record.claim_event and redis.call('HDEL', intents, armed) == 1 then publish(outbox, cut_off, now) end
    forget_moved(KEYS[9], KEYS[10], name)
    drop_record(KEYS[i], tags, KEYS[8], KEYS[11], late, pins, manifests, record, now, name)
    if tombstone == '1' then
      redis.call('HSET', KEYS[i], 'deleted', text(now), 'deleted_digest', held, 'deleted_by', ARGV[4],
        'generation', record.generation, 'first', record.first,
        'told', string.sub((record.told or '') .. ' ' .. (record.event or ''), -TOLD_LENGTH))
    end
    publish(outbox, event, now)
  end
end
while at <= #ARGV do
  local name, held, event = take(), take(), take()
  local digest = redis.call('HGET', KEYS[10], name)
  local goes = digest and (held == '' or held == digest)
  went[#went + 1] = goes and 1 or 0
  if goes then
    forget_moved(KEYS[9], KEYS[10], name)
    publish(outbox, event, now)
  end
end
publish(outbox, ARGV[3], now)
return went
