-- What a push leaves that lost touch with Redis: whatever it owns of the tag, without knowing whether it owns anything.
-- A claim that nothing was sent for goes.  An armed one stays and its lease ends now, so that anybody may finish it.
--
-- KEYS 1 tag record  2 pins  3 manifests  4 intents
-- ARGV 1 token  2 id of the event that the caller may have armed it with and has sent nothing for, or ''
-- Returns RELEASED, LET_GO, or LOST (nothing is the caller's).
local record = read_record(KEYS[1])
if record.claim_token ~= ARGV[1] then return 'LOST' end
if record.claim_state == 'armed' and record.claim_event ~= ARGV[2] then
  redis.call('HSET', KEYS[1], 'claim_lease', text(now_ms()), 'claim_term', '0')
  return 'LET_GO'
end
if record.claim_event then redis.call('HDEL', KEYS[4], record.claim_event) end
drop_claim(KEYS[1], KEYS[2], KEYS[3], record)
return 'RELEASED'
