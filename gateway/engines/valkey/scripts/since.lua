-- What a node has not received. ARGV: shift, node, newest position received on its channel, then rooms and the newest
-- position received of each, in pairs. Returns {position, running, {message of the node's channel, …}} and then for each
-- room {id, is complete, {position, previous, event, author, body} …} where there is anything.
local MOST = 1000

local function after(stream, position)
  return redis.call('XRANGE', stream, '(' .. position .. '-0', '+', 'COUNT', MOST)
end

local sent = {}
for _, item in ipairs(after(key('sent', ARGV[2]), ARGV[3])) do sent[#sent + 1] = item[2][2] end
local reply = {number(redis.call('HGET', META, 'position')), running(), sent}
for at = 4, #ARGV, 2 do
  local room, position = ARGV[at], ARGV[at + 1]
  local known = redis.call('HMGET', key('room', room), 'last', 'mtp', 'ntp')
  if number(known[1]) > tonumber(position) then
    local whole = number(known[2]) <= tonumber(position) and number(known[3]) <= tonumber(position)
    local found = {room, whole and 1 or 0}
    for _, kind in ipairs({'m', 'n'}) do
      local entries = after(key('log' .. kind, room), position)
      if #entries == MOST then found[2] = 0 end
      for _, item in ipairs(entries) do
        local entry = entry_fields(item[2])
        found[#found + 1] = {number(string.sub(item[1], 1, -3)), number(entry.p), entry.e, entry.a, entry.b}
      end
    end
    reply[#reply + 1] = found
  end
end
return reply
