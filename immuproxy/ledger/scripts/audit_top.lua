-- The members with the highest sums over several sorted sets of counts.
--
-- KEYS 1 a scratch key, empty before and after  2.. sorted sets
-- ARGV 1 how many
-- Returns member, sum, ... highest first.
local scratch = KEYS[1]
local sources = {}
for i = 2, #KEYS do sources[i - 1] = KEYS[i] end
redis.call('ZUNIONSTORE', scratch, #sources, unpack(sources))
local best = redis.call('ZREVRANGE', scratch, 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
redis.call('DEL', scratch)
return best
