-- Tries each command that the ledger and the audit use, on a key of the proxy's own (H98).
--
-- The key holds a string, so most commands end with WRONGTYPE: they may be run, and change nothing.
--
-- KEYS: 1 a key that nothing else uses
-- ARGV: none
-- returns: the names of the commands that may not be run or do not exist, in capitals; {} where nothing is missing
local key, missing = KEYS[1], {}

local commands = {
  {'SET', key, '1'}, {'GET', key}, {'INCR', key},
  {'EXISTS', key}, {'TYPE', key}, {'PTTL', key}, {'PEXPIRE', key, 60000}, {'TIME'},
  {'INFO', 'server'},
  {'HDEL', key, 'f'}, {'HEXISTS', key, 'f'}, {'HGET', key, 'f'}, {'HGETALL', key}, {'HLEN', key}, {'HMGET', key, 'f'},
  {'HSCAN', key, 0}, {'HSET', key, 'f', ''}, {'HSTRLEN', key, 'f'},
  {'SADD', key, 'm'}, {'SCARD', key}, {'SISMEMBER', key, 'm'}, {'SMEMBERS', key},
  {'XADD', key, '*', 'f', ''}, {'XDEL', key, '0-1'}, {'XINFO', 'STREAM', key}, {'XLEN', key}, {'XRANGE', key, '-', '+'},
  {'XREAD', 'STREAMS', key, '0-0'}, {'XREVRANGE', key, '+', '-'}, {'XTRIM', key, 'MAXLEN', 0},
  {'ZADD', key, 0, 'm'}, {'ZCARD', key}, {'ZINCRBY', key, 0, 'm'}, {'ZMSCORE', key, 'm'}, {'ZRANGE', key, 0, 0},
  {'ZRANGEBYSCORE', key, 0, 0}, {'ZREM', key, 'm'}, {'ZREMRANGEBYRANK', key, 0, 0}, {'ZREMRANGEBYSCORE', key, 0, 0},
  {'ZREVRANGE', key, 0, 0}, {'ZSCORE', key, 'm'},
  {'GETDEL', key}, {'DEL', key}, {'UNLINK', key},
}

for _, command in ipairs(commands) do
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err and not string.find(reply.err, 'WRONGTYPE', 1, true) then
    missing[#missing + 1] = command[1]
  end
end
return missing
