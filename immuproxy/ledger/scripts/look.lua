-- Whether the ledger is the one that the caller knows, and all of it (H68, H105); lists a repository on the way.
--
-- A lineage is the name of the ledger between two losses.  The key keeps the newest names, as each process that knows one
-- of them has only to hear of the loss; a process that knows none of them tells of it, with the name that it knew.  So
-- each name is told of once, however many notice at a time.
--
-- Who comes new cannot tell an older copy from what there was.  The key also keeps the history of the server of which
-- somebody who knew the lineage found nothing lost; a server with another one is in doubt, until that is looked at (H119).
--
-- KEYS 1 repositories  2 lineage  3 beats
-- ARGV 1 a repository to list, or ''  2 '1' where the caller has listed it before  3 who asks  4 the lineage that it
--      knows, or '' where it comes new  5 its last beat there, or 0  6 a name for a new lineage  7 '1' to beat
-- Returns {lineage, fault, how long ago the last loss was noticed (ms; -1 for never), the caller's beat, how long ago
-- the server was last in doubt (likewise)}.  Faults:
-- EMPTIED, OLDER (what was there is not any more), FOREIGN (it is another ledger, or a copy of another lineage), TOLD
-- (somebody else has noticed), or '' for none.
local MOST_NAMES, MOST_BEATS = 100, 1000

local repository, listed, caller, known, beat = ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4], tonumber(ARGV[5])
local names = redis.call('HGET', KEYS[2], 'names')

local function has(name)
  return string.find(' ' .. names .. ' ', ' ' .. name .. ' ', 1, true)
end

local function fault()
  if known == '' then return '' end
  if not names then return 'EMPTIED' end
  if has(known) ~= 1 then return has(known) and 'TOLD' or 'FOREIGN' end
  if tonumber(redis.call('ZSCORE', KEYS[3], caller) or 0) < beat then return 'OLDER' end
  if listed and redis.call('SISMEMBER', KEYS[1], repository) == 0 then return 'OLDER' end
  return ''
end

local function named(found)
  local all = {ARGV[6]}
  if known ~= '' and not (names and has(known)) then all[2] = known end
  for name in string.gmatch(names or '', '%S+') do
    if #all < MOST_NAMES then all[#all + 1] = name end
  end
  names = table.concat(all, ' ')
  redis.call('HSET', KEYS[2], 'names', names)
  if found ~= '' then redis.call('HSET', KEYS[2], 'lost', text(now_ms())) end
end

local found = fault()
if not names or (found ~= '' and found ~= 'TOLD') then named(found) end
if repository ~= '' and not (listed and found == '') then redis.call('SADD', KEYS[1], repository) end
if ARGV[7] == '1' then
  -- The counter has the highest score, so those that beat the longest ago are forgotten.
  beat = tonumber(redis.call('ZINCRBY', KEYS[3], 1, 'counter'))
  redis.call('ZADD', KEYS[3], beat, caller)
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -MOST_BEATS - 1)
elseif found ~= '' then
  beat = 0
end
if known == '' or ARGV[7] == '1' then
  local told, own = redis.call('HGET', KEYS[2], 'history'), history()
  if told ~= own then
    redis.call('HSET', KEYS[2], 'history', own)
    if known == '' and told then redis.call('HSET', KEYS[2], 'doubted', text(now_ms())) end
  end
end

local function ago(field)
  local at = redis.call('HGET', KEYS[2], field)
  return at and math.max(0, now_ms() - tonumber(at)) or -1
end

return {string.match(names, '%S+'), found, ago('lost'), beat, ago('doubted')}
