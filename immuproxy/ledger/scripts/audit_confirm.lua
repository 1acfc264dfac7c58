-- Whether the audit still has what was taken from outboxes.  To be waited for before these are emptied (H108).
--
-- A node that another took over from may have forgotten it: its watermarks then went back with the events.  What is found
-- is written once more, because Redis waits for what a connection wrote itself, and for all that came before that.
--
-- KEYS 1 watermark (hash)
-- ARGV for each outbox: repository, the outbox id up to which it was taken
-- Returns for each 1 where the audit has it, else 0.
local watermark = KEYS[1]

local function parse_id(text)
  local ms, seq = string.match(text or '', '^(%d+)%-(%d+)$')
  return tonumber(ms) or 0, tonumber(seq) or 0
end

local found = {}
for at = 1, #ARGV, 2 do
  local mark = redis.call('HGET', watermark, ARGV[at])
  local mark_ms, mark_seq = parse_id(mark or '')
  local ms, seq = parse_id(ARGV[at + 1])
  local has = mark_ms > ms or (mark_ms == ms and mark_seq >= seq)
  if has then redis.call('HSET', watermark, ARGV[at], mark) end
  found[#found + 1] = has and 1 or 0
end
return found
