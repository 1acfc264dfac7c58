-- Record something that changes nothing: a refusal, an unchanged push, drift.
--
-- KEYS 1 outbox  2 tag record (left out where the event does not rest on what the tag holds)
-- ARGV 1 event  2 digest and  3 generation that the tag must hold still (H117); '' and 0 where it has none
-- Returns 1 when the event was written, 0 when the tag holds something else by now.
if KEYS[2] then
  local held = redis.call('HMGET', KEYS[2], 'digest', 'generation')
  if (held[1] or '') ~= ARGV[2] or (held[2] or '0') ~= ARGV[3] then return 0 end
end
publish(KEYS[1], ARGV[1], now_ms())
return 1
