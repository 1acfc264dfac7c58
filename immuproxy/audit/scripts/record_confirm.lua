-- Whether the record still has what was taken from outboxes.  To be waited for before these are emptied (H108).
--
-- A node that another took over from may have forgotten it: its watermarks then went back with the events.  What is found
-- is written once more, because Redis waits for what a connection wrote itself, and for all that came before that.
--
-- KEYS 1 watermark (hash)
-- ARGV for each outbox: repository, its life (empty for what an older release wrote), the id in it up to which it was taken
-- Returns for each 1 where the record has it, else 0: also where somebody went on to the next life, and emptied this one.
local watermark = KEYS[1]

local function parse(mark)
  local life, ms, seq = string.match(mark, '^(%x*) (%d+)%-(%d+)$')
  if not life then ms, seq = string.match(mark, '^(%d+)%-(%d+)$') end
  return life or '', tonumber(ms) or 0, tonumber(seq) or 0
end

local found = {}
for at = 1, #ARGV, 3 do
  local mark, has = redis.call('HGET', watermark, ARGV[at]) or '', false
  local life, mark_ms, mark_seq = parse(mark)
  local _, ms, seq = parse(ARGV[at + 2])
  if life == ARGV[at + 1] then has = mark_ms > ms or (mark_ms == ms and mark_seq >= seq) end
  if has then redis.call('HSET', watermark, ARGV[at], mark) end
  found[#found + 1] = has and 1 or 0
end
return found
