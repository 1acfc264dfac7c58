-- End a permission, by hand or because its time is over, with the event that tells of it.
--
-- KEYS 1 exceptions  2 outbox
-- ARGV 1 tag  2 id of the event that granted it  3 event
-- Returns 1 when it was this permission that ended, else 0.
local found = redis.call('HGET', KEYS[1], ARGV[1])
if not found or cjson.decode(found).event ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
publish(KEYS[2], ARGV[3], now_ms())
return 1
