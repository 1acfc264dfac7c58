-- Put in front of every script but those of the record, by store/scripts.py.

-- Milliseconds by the clock of Redis, the only clock that the protocol knows (H73).
local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function text(number)
  return string.format('%.0f', number)
end

