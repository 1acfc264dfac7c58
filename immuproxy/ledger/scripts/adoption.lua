-- Before all tags of a repository are looked at.
--
-- KEYS 1 adopted
-- ARGV 1 a name for the case that nobody has begun before
-- Returns what `delete_begin` compares: it stays the same for as long as the repository's part of the ledger is not
-- emptied, and the server that holds it is neither started anew nor replaced.
local name = redis.call('GET', KEYS[1])
if not name then
  name = ARGV[1]
  redis.call('SET', KEYS[1], name)
end
return name .. ' ' .. history()
