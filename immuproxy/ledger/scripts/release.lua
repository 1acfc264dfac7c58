-- CLAIMED or ARMED -> what was there before; only by the owner, and only when the upstream surely did not take the PUT.
--
-- KEYS 1 tag record  2 pins  3 manifests  4 intents  5 outbox  6 claims
-- ARGV 1 token  2 event that says how it ended, or ''  3 1: only if nothing was armed yet, 0: also then
--      4 tag name
-- Returns {status, now, record...}; status RELEASED, or LOST.
local key, pins, manifests, intents, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now = now_ms()
local record = read_record(key)
if record.claim_token ~= ARGV[1] or (ARGV[3] == '1' and record.claim_state == 'armed') then return reply('LOST', key, now) end
if record.claim_event then redis.call('HDEL', intents, record.claim_event) end
drop_claim(key, pins, manifests, record)
redis.call('ZREM', KEYS[6], ARGV[4])
publish(outbox, ARGV[2], now)
return reply('RELEASED', key, now)
