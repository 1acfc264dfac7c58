-- Before the content that a tag holds is put under it upstream once more: until that PUT can no longer land, no other
-- content is claimed for the tag (H121).  A claim that was never armed goes, as nothing was sent for it; its owner claims
-- again.
--
-- KEYS 1 tag record  2 pins  3 manifests  4 marks  5 claims
-- ARGV 1 digest that the tag is believed to hold  2 name of this heal  3 tag name
-- Returns 1, or 0: the tag holds something else, may be about to, or is being deleted.
local key, pins, manifests = KEYS[1], KEYS[2], KEYS[3]
local record = read_record(key)
if record.digest ~= ARGV[1] or record.claim_state == 'armed' then return 0 end
if marked(KEYS[4], ARGV[1] .. ' tag:' .. ARGV[3]) then return 0 end
if record.claim_state then
  drop_claim(key, pins, manifests, record)
  redis.call('ZREM', KEYS[5], ARGV[3])
end
redis.call('HSET', key, HEAL .. ARGV[2], text(now_ms()))
return 1
