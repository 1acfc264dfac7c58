-- A late write was looked at: it is forgotten, or is due again later.
--
-- KEYS 1 late
-- ARGV 1 the write  2 until when it was left to the caller  3 ms until it is due again, or '' to forget it
-- Returns 1, or 0 where it is another's by now, or was sent once more.
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) ~= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '' then redis.call('ZREM', KEYS[1], ARGV[1])
else redis.call('ZADD', KEYS[1], text(now_ms() + tonumber(ARGV[3])), ARGV[1]) end
return 1
