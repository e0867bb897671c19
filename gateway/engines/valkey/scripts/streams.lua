-- ARGV: shift, position, then rooms. Returns {position, running, stream, …}: for each room its messages and its notices as
-- they were at that position, each {newest position, its author, newest before it by another author, and the same of what
-- was trimmed}.
local wanted = tonumber(ARGV[2])

local function stream_of(room, kind)
  local known = redis.call('HMGET', key('room', room), kind, kind .. 't')
  local position, _, _, other, _, author = read_state(known[1])
  local trimmed, _, _, trimmed_other, _, trimmed_author = read_state(known[2])
  if position > wanted then
    local before = redis.call('XREVRANGE', key('log' .. kind, room), ARGV[2] .. '-0', '-', 'COUNT', 1)[1]
    if before then
      local entry = entry_fields(before[2])
      position, author, other = number(string.sub(before[1], 1, -3)), entry.a, number(entry.o)
    else
      position, author, other = trimmed, trimmed_author, trimmed_other
    end
  end
  return {position, author, other, trimmed, trimmed_author, trimmed_other}
end

local reply = {number(redis.call('HGET', META, 'position')), running()}
for at = 3, #ARGV do
  reply[#reply + 1] = stream_of(ARGV[at], 'm')
  reply[#reply + 1] = stream_of(ARGV[at], 'n')
end
return reply
