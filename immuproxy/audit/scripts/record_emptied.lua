-- Delete from an outbox what the audit has taken, and with the last of it the outbox: names that nothing is ever pushed
-- to with success leave no key behind (H96).
--
-- KEYS 1 outbox
-- ARGV 1 the life that the ids are of; ids of another one may be the same, where time went back  2.. the ids
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not first or (first[2][4] or '') ~= ARGV[1] then return 0 end
redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1]) end
return 1
