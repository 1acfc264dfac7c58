-- Store the bytes of one manifest that a tag, or a claim, needs.  Nothing of it is left when nothing needs it any more:
-- whoever takes the last pin away takes the bytes with it.
--
-- KEYS 1 pins  2 manifests
-- ARGV 1 digest  2 what is stored
-- Returns 1, or 0 when nothing needs it (any more).
if not redis.call('HGET', KEYS[1], ARGV[1]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
