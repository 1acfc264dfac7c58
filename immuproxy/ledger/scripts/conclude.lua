-- Record the outcome of an intent: exactly one event for each (I10).  A tag that came to hold something, and that no rule
-- holds, is kept in the index of such tags (H100).  What others told without proof is kept, so that whoever knows better
-- can tell it in a second event, with the time of the first (H114).
--
-- KEYS 1 intents  2 outbox  3 unproved
--      4 moving  5 moved  6 tag record (left out, all three, where the event sets no tag)
-- ARGV 1 event id  2 event  3 the same as a second event  4 1 where it is told without proof, or 0
--      5 tag name  6 digest that it came to hold
-- Returns 1 when the event was written, 2 when the second was, 0 when the intent had its outcome already.
local now = now_ms()
local told = redis.call('HGET', KEYS[3], ARGV[1])
local first = redis.call('HDEL', KEYS[1], ARGV[1]) == 1
if not first and (not told or ARGV[4] == '1') then return 0 end
if KEYS[6] and redis.call('HEXISTS', KEYS[6], 'digest') == 0 then
  forget_moved(KEYS[4], KEYS[5], ARGV[5])
  redis.call('ZADD', KEYS[4], 0, holding({digest = ARGV[6]}, ARGV[5]))
  redis.call('HSET', KEYS[5], ARGV[5], ARGV[6])
end
if first then
  if ARGV[4] == '1' then redis.call('HSET', KEYS[3], ARGV[1], stamped(ARGV[2], now)) end
  publish(KEYS[2], ARGV[2], now)
  return 1
end
redis.call('HDEL', KEYS[3], ARGV[1])
publish(KEYS[2], stamped(ARGV[3], tonumber(string.match(told, '^{"time":(%d+)'))), now)
return 2
