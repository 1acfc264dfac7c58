-- Before a push that the register does not guard (a mutable tag, a manifest by digest): write the intent.
-- A record that the tag still has from a time when it was protected is dropped: the rules in force now let it move,
-- and whatever the upstream shows when it is protected again is adopted then: what is pushed now counts as no late write
-- of what was deleted before (H110).
--
-- KEYS 1 intents  2 marks  3 pins  4 manifests  5 tags  6 holders  7 floor  8 late
--      9 tag record (left out for a push by digest)
-- ARGV 1 event id  2 draft of the event  3 needs  4 tag name or ''  5 generation of the record that may go, 0 for none
--      6 quarantine (ms that a PUT may be on its way)  7 digest that is pushed
--      8 what time the caller expects  9 for how long it has seen the clock go evenly (ms; see `passed`)
-- Returns {status, now}; status OK, BUSY (a guarded push of the tag is under way), DELETING, or CHANGED (the tag has
-- another record than the caller saw, H104).
local intents, marks, pins, manifests = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = now_ms()
if marked(marks, ARGV[3]) then return {'DELETING', text(now)} end
if KEYS[9] then
  local record = read_record(KEYS[9])
  if record.claim_state and not is_over(record, now, tonumber(ARGV[8]), tonumber(ARGV[9])) then return {'BUSY', text(now)} end
  if record.digest and tonumber(record.generation) ~= tonumber(ARGV[5]) then return {'CHANGED', text(now)} end
  if record.digest or record.claim_state then
    local late = {key = KEYS[8], quarantine = tonumber(ARGV[6])}
    drop_record(KEYS[9], KEYS[5], KEYS[6], KEYS[7], late, pins, manifests, record, now, ARGV[4])
  end
  redis.call('ZREM', KEYS[8], put_of(ARGV[4], ARGV[7]))
end
redis.call('HSET', intents, ARGV[1], stamped(ARGV[2], now))
return {'OK', text(now)}
