-- The upstream shows something else than the tag holds: one open finding for each tag, one event for each new finding.
--
-- KEYS 1 drift findings  2 outbox  3 tag record  4 marks
-- ARGV 1 tag name  2 digest seen, or '-' for none  3 digest that the tag was believed to hold  4 event
-- Returns 1 when the finding is new, 0 when it is known already, or is none: the tag holds something else by now, is
-- about to hold what was seen, or is being deleted.
local record = redis.call('HMGET', KEYS[3], 'digest', 'claim_state', 'claim_digest')
if record[1] ~= ARGV[3] or (record[2] == 'armed' and record[3] == ARGV[2]) then return 0 end
if marked(KEYS[4], ARGV[3] .. ' tag:' .. ARGV[1]) then return 0 end
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and string.match(known, '^%S+') == ARGV[2] then return 0 end
local now = now_ms()
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. text(now))
publish(KEYS[2], ARGV[4], now)
return 1
