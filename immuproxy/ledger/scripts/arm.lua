-- CLAIMED -> ARMED: from here on the PUT may reach the upstream, so the intent is written in the same step.
-- Repeating it with the same token renews the lease and replaces the needs.
--
-- KEYS 1 tag record  2 pins  3 manifests  4 intents  5 outbox
-- ARGV 1 token  2 lease (ms from now)  3 needs  4 event id  5 draft of the event
--      6 event that closes the intent of the claim that was taken over, or ''
-- Returns {status, now, record...}; status ARMED, or LOST (the claim is no longer the caller's).
local key, pins, manifests, intents, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now = now_ms()
local record = read_record(key)
if record.claim_token ~= ARGV[1] then return reply('LOST', key, now) end
if record.claim_event and record.claim_event ~= ARGV[4] and redis.call('HDEL', intents, record.claim_event) == 1 then
  publish(outbox, ARGV[6], now)
end
redis.call('HSET', intents, ARGV[4], stamped(ARGV[5], now))
repin_claim(pins, manifests, record, ARGV[3])
redis.call('HSET', key, 'claim_state', 'armed', 'claim_lease', text(now + tonumber(ARGV[2])), 'claim_term', ARGV[2],
  'claim_armed', text(now), 'claim_event', ARGV[4], 'claim_needs', ARGV[3])
return reply('ARMED', key, now)
