-- ARGV: shift, position, then rooms. Returns {position, running, stream, …}: for each room its messages and its notices as
-- they were at that position, each {newest position, its author, newest before it by another author, and the same of what
-- was trimmed}.
local wanted = tonumber(ARGV[2])

local function stream_of(room, kind)
  local known = redis.call('HMGET', key('room', room), kind .. 'p', kind .. 'a', kind .. 'o',
    kind .. 'tp', kind .. 'ta', kind .. 'to')
  local position, author, other = number(known[1]), known[2] or '', number(known[3])
  if position > wanted then
    local before = redis.call('XREVRANGE', key('log' .. kind, room), ARGV[2] .. '-0', '-', 'COUNT', 1)[1]
    if before then
      local entry = entry_fields(before[2])
      position, author, other = number(string.sub(before[1], 1, -3)), entry.a, number(entry.o)
    else
      position, author, other = number(known[4]), known[5] or '', number(known[6])
    end
  end
  return {position, author, other, number(known[4]), known[5] or '', number(known[6])}
end

local reply = {number(redis.call('HGET', META, 'position')), running()}
for at = 3, #ARGV do
  reply[#reply + 1] = stream_of(ARGV[at], 'm')
  reply[#reply + 1] = stream_of(ARGV[at], 'n')
end
return reply
