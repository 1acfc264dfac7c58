-- Before a delete by digest is sent: nothing that a tag or a push under way needs may go, and nothing may come to need it
-- until the outcome is known (H34, H77).
--
-- KEYS 1 pins  2 marks  3 intents  4 adopted  5 exceptions
--      6.. records of the tags that may go with it, first those that only an exception lets go
-- ARGV 1 digest, by all names that the registry has for it (space-separated, H81)  2 how long the delete may take (ms)
--      3 event id  4 draft of the event
--      5 what `adoption` said before the caller adopted all tags of the repository, or '' where it need not
--      6 the ledger's own time (ms, H113)
--      7.. for each tag that only an exception lets go: its name, the digest by which it was judged ('' for none), the id
--      of the event that granted the exception
-- Returns GRANTED, PINNED, BUSY (another delete of the digest is under way), UNADOPTED (something may have been
-- lost since the caller adopted all tags, so the pins tell nothing), or CHANGED (an exception has ended, or its tag holds
-- something else than was judged).
if ARGV[5] ~= '' and (redis.call('GET', KEYS[4]) or '') .. ' ' .. history() ~= ARGV[5] then return 'UNADOPTED' end
local now = now_ms()
for i = 7, #ARGV, 3 do
  local found = redis.call('HGET', KEYS[5], ARGV[i])
  local exception = found and cjson.decode(found)
  if not exception or exception.event ~= ARGV[i + 2] or (exception.over or exception.ends) <= tonumber(ARGV[6]) then return 'CHANGED' end
  if (redis.call('HGET', KEYS[6 + (i - 7) / 3], 'digest') or '') ~= ARGV[i + 1] then return 'CHANGED' end
end
local own = {}
for i = 6, #KEYS do
  local held = redis.call('HGET', KEYS[i], 'digest')
  if held then own[held] = (own[held] or 0) + 1 end
end
for digest in string.gmatch(ARGV[1], '%S+') do
  if tonumber(redis.call('HGET', KEYS[1], digest) or 0) > (own[digest] or 0) then return 'PINNED' end
end
if marked(KEYS[2], ARGV[1]) then return 'BUSY' end
for digest in string.gmatch(ARGV[1], '%S+') do redis.call('ZADD', KEYS[2], text(now + tonumber(ARGV[2])), digest) end
redis.call('HSET', KEYS[3], ARGV[3], stamped(ARGV[4], now))
return 'GRANTED'
