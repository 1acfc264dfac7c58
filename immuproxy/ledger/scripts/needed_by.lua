-- Which of some tags needs a digest, itself or by a push under way.
--
-- KEYS 1.. records of tags
-- ARGV 1 digest
-- Returns the number of the first that does, counted from 1; 0 where none does.
for i = 1, #KEYS do
  local needs = redis.call('HMGET', KEYS[i], 'needs', 'claim_needs')
  if string.find((needs[1] or '') .. ' ' .. (needs[2] or ''), ARGV[1], 1, true) then return i end
end
return 0
