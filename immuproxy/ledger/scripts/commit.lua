-- ARMED(D, token) -> COMMITTED(D, generation + 1), with the event, in one step; only by the owner of the armed claim (H67).
--
-- KEYS 1 tag record  2 tags  3 pins  4 manifests  5 intents  6 outbox  7 holders  8 floor  9 late
-- ARGV 1 token  2 digest  3 tag name  4 event  5 needs  6 quarantine (ms that a PUT may be on its way)
--      7 number N of field/value items that follow, 8.. the fields, then digest/bytes pairs of stored manifests
-- Returns {status, now, record...}; status
--   COMMITTED the tag holds the digest by this push, or did until it was overwritten or left a tombstone: somebody
--             helped, or a reply was lost
--   CONFLICT  the tag holds something by another push, and there is no claim of the caller's
--   LOST      the claim is not the caller's, and the tag holds nothing
local key, tags, pins, manifests, intents, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now = now_ms()
local record = read_record(key)
if record.claim_token ~= ARGV[1] or record.claim_state ~= 'armed' or record.claim_digest ~= ARGV[2] then
  if was_told(record, cjson.decode(ARGV[4]).id) then return reply('COMMITTED', key, now) end
  return reply(record.digest and 'CONFLICT' or 'LOST', key, now)
end
local count = tonumber(ARGV[7])
for i = 8 + count, #ARGV, 2 do redis.call('HSET', manifests, ARGV[i], ARGV[i + 1]) end
local late = {key = KEYS[9], quarantine = tonumber(ARGV[6])}
hold(key, tags, KEYS[7], KEYS[8], late, pins, manifests, record, now, ARGV[3], ARGV[2], ARGV[5], slice(ARGV, 8, count))
redis.call('HDEL', intents, record.claim_event)
drop_claim(key, pins, manifests, record)
publish(outbox, ARGV[4], now)
return reply('COMMITTED', key, now)
