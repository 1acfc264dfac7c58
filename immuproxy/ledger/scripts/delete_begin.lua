-- Before a delete by digest is sent: nothing that a tag or a push under way needs may go, and nothing may come to need it
-- until the outcome is known (H34, H77).
--
-- KEYS 1 pins  2 marks  3 intents
-- ARGV 1 digest  2 pins that the caller may take away (its tags' own)  3 how long the delete may take (ms)
--      4 event id  5 draft of the event
-- Returns GRANTED, PINNED, or BUSY (another delete of the digest is under way).
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) > tonumber(ARGV[2]) then return 'PINNED' end
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 'BUSY' end
local now = now_ms()
redis.call('ZADD', KEYS[2], text(now + tonumber(ARGV[3])), ARGV[1])
redis.call('HSET', KEYS[3], ARGV[4], stamped(ARGV[5], now))
return 'GRANTED'
