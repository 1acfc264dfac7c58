-- The upstream shows something else than the tag holds: one open finding for each tag, one event for each new finding.
--
-- KEYS 1 drift findings  2 outbox  3 tag record
-- ARGV 1 tag name  2 digest seen, or '-' for none  3 digest that the tag was believed to hold  4 event
-- Returns 1 when the finding is new, 0 when it is known already or the tag holds something else by now.
if redis.call('HGET', KEYS[3], 'digest') ~= ARGV[3] then return 0 end
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and string.match(known, '^%S+') == ARGV[2] then return 0 end
local now = now_ms()
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. text(now))
publish(KEYS[2], ARGV[4], now)
return 1
