-- Before a push that the register does not guard (a mutable tag, a manifest by digest): write the intent.
-- A record that the tag still has from a time when it was protected is dropped: the rules in force now let it move,
-- and whatever the upstream shows when it is protected again is adopted then.
--
-- KEYS 1 intents  2 marks  3 pins  4 manifests  5 tags  6 holders  7 floor
--      8 tag record (left out for a push by digest)
-- ARGV 1 event id  2 draft of the event  3 needs  4 tag name or ''  5 generation of the record that may go, 0 for none
--      6 what time the caller expects  7 for how long it has seen the clock go evenly (ms; see `passed`)
-- Returns {status, now}; status OK, BUSY (a guarded push of the tag is under way), DELETING, or CHANGED (the tag has
-- another record than the caller saw, H104).
local intents, marks, pins, manifests = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = now_ms()
if marked(marks, ARGV[3]) then return {'DELETING', text(now)} end
if KEYS[8] then
  local record = read_record(KEYS[8])
  if record.claim_state and not is_over(record, now, tonumber(ARGV[6]), tonumber(ARGV[7])) then return {'BUSY', text(now)} end
  if record.digest and tonumber(record.generation) ~= tonumber(ARGV[5]) then return {'CHANGED', text(now)} end
  if record.digest or record.claim_state then
    drop_record(KEYS[8], KEYS[5], KEYS[6], KEYS[7], pins, manifests, record, ARGV[4])
  end
end
redis.call('HSET', intents, ARGV[1], stamped(ARGV[2], now))
return {'OK', text(now)}
