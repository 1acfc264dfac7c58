-- Before a delete by digest is sent: nothing that a tag or a push under way needs may go, and nothing may come to need it
-- until the outcome is known (H34, H77).
--
-- KEYS 1 pins  2 marks  3 intents  4 adopted  5.. records of the tags that may go with it
-- ARGV 1 digest  2 how long the delete may take (ms)  3 event id  4 draft of the event
--      5 what the caller found in `adopted` before it adopted all tags of the repository, or '' where it need not
-- Returns GRANTED, PINNED, BUSY (another delete of the digest is under way), or UNADOPTED (the ledger was emptied since
-- the caller adopted all tags, so the pins tell nothing).
if ARGV[5] ~= '' and redis.call('GET', KEYS[4]) ~= ARGV[5] then return 'UNADOPTED' end
local own = 0
for i = 5, #KEYS do
  if redis.call('HGET', KEYS[i], 'digest') == ARGV[1] then own = own + 1 end
end
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) > own then return 'PINNED' end
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 'BUSY' end
local now = now_ms()
redis.call('ZADD', KEYS[2], text(now + tonumber(ARGV[2])), ARGV[1])
redis.call('HSET', KEYS[3], ARGV[3], stamped(ARGV[4], now))
return 'GRANTED'
