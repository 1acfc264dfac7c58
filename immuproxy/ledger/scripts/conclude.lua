-- Record the outcome of an intent: exactly one event for each (I10).  A tag that came to hold something, and that no rule
-- holds, is kept in the index of such tags (H100).
--
-- KEYS 1 intents  2 outbox  3 moving  4 moved  5 tag record (left out, as 3 and 4 are, where the event sets no tag)
-- ARGV 1 event id  2 event  3 tag name  4 digest that it came to hold
-- Returns 1 when the event was written, 0 when the intent had its outcome already.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
if KEYS[5] and redis.call('HEXISTS', KEYS[5], 'digest') == 0 then
  forget_moved(KEYS[3], KEYS[4], ARGV[3])
  redis.call('ZADD', KEYS[3], 0, holding({digest = ARGV[4]}, ARGV[3]))
  redis.call('HSET', KEYS[4], ARGV[3], ARGV[4])
end
publish(KEYS[2], ARGV[2], now_ms())
return 1
