-- The outcome of a delete: the mark goes, the event comes, and the records of the tags that went are dropped, each
-- leaving a tombstone where its rule keeps the name taken.
--
-- KEYS 1 marks  2 intents  3 outbox  4 tags  5 pins  6 manifests  7 deletes (how many have ended)
--      8 holders  9.. records of the tags that went
-- ARGV 1 digest, by all names that `delete_begin.lua` was given  2 event id  3 event  4 who deleted
--      5.. for each record: tag name, digest it held, 1 for a tombstone or 0
-- Returns 1 when the event was written, 0 when the intent had its outcome already.
local marks, intents, outbox, tags, pins, manifests = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now = now_ms()
local ended = 0
for digest in string.gmatch(ARGV[1], '%S+') do ended = ended + redis.call('ZREM', marks, digest) end
if ended > 0 then redis.call('INCR', KEYS[7]) end
if redis.call('HDEL', intents, ARGV[2]) == 0 then return 0 end
for i = 9, #KEYS do
  local name, held, tombstone = ARGV[3 * i - 22], ARGV[3 * i - 21], ARGV[3 * i - 20]
  local record = read_record(KEYS[i])
  if record.digest == held then
    drop_record(KEYS[i], tags, KEYS[8], pins, manifests, record, name)
    if tombstone == '1' then
      redis.call('HSET', KEYS[i], 'deleted', text(now), 'deleted_digest', held, 'deleted_by', ARGV[4],
        'generation', record.generation, 'first', record.first,
        'told', string.sub((record.told or '') .. ' ' .. (record.event or ''), -TOLD_LENGTH))
    end
  end
end
publish(outbox, ARGV[3], now)
return 1
