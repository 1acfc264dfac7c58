-- The events behind a position, oldest first, as XRANGE answers them.  Reads only.
--
-- KEYS 1 events (stream)
-- ARGV 1 milliseconds  2 sequence  3 how many at most
return redis.call('XRANGE', KEYS[1], '(' .. ARGV[1] .. '-' .. ARGV[2], '+', 'COUNT', ARGV[3])
