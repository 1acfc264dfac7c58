-- Remove some of the oldest events.
--
-- KEYS 1 events (stream)
-- ARGV 1 milliseconds: ids before it go  2 how many at most
-- Returns how many were removed; 0 when none is left to remove.
if tonumber(ARGV[1]) <= 0 then return 0 end
local old = redis.call('XRANGE', KEYS[1], '-', '(' .. ARGV[1] .. '-0', 'COUNT', ARGV[2])
if #old == 0 then return 0 end
local last_ms, last_seq = string.match(old[#old][1], '^(%d+)%-(%d+)$')
return redis.call('XTRIM', KEYS[1], 'MINID', '=', last_ms .. '-' .. string.format('%.0f', tonumber(last_seq) + 1))
