-- The members with the highest sums over several sorted sets of counts.  Reads only.
--
-- KEYS 1.. sorted sets
-- ARGV 1 how many  2 how many of the highest of each set are candidates
-- Returns member, sum, ... highest first.  The sums are exact; a member that is no candidate of any set is left out.
local sums, members = {}, {}
for k = 1, #KEYS do
  local highest = redis.call('ZREVRANGE', KEYS[k], 0, tonumber(ARGV[2]) - 1, 'WITHSCORES')
  for i = 1, #highest, 2 do
    if not sums[highest[i]] then members[#members + 1] = highest[i] end
    sums[highest[i]] = (sums[highest[i]] or 0) + tonumber(highest[i + 1])
  end
end

local function by_sum(one, other)
  if sums[one] ~= sums[other] then return sums[one] > sums[other] end
  return one < other
end

-- What a set did not show can be more than what it showed: the exact sums of somewhat more than are asked for.
table.sort(members, by_sum)
local best = {}
for i = 1, math.min(#members, 2 * tonumber(ARGV[1])) do
  local member, sum = members[i], 0
  for k = 1, #KEYS do sum = sum + tonumber(redis.call('ZSCORE', KEYS[k], member) or 0) end
  sums[member] = sum
  best[i] = member
end
table.sort(best, by_sum)
local answer = {}
for i = 1, math.min(#best, tonumber(ARGV[1])) do
  answer[#answer + 1] = best[i]
  answer[#answer + 1] = string.format('%.0f', sums[best[i]])
end
return answer
