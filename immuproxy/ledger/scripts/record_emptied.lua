-- Delete from an outbox what the audit has taken, and with the last of it the outbox: names that nothing is ever pushed
-- to with success leave no key behind (H96).
--
-- KEYS 1 outbox
-- ARGV the ids
redis.call('XDEL', KEYS[1], unpack(ARGV))
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1]) end
return 1
