-- What a node has not received. ARGV: shift, node, newest position received on its channel, then rooms and the newest
-- position received of each, in pairs. Returns {position, running, {message of the node's channel, …}} and then for each
-- room where there is anything {id, state, {position, previous, event, author, body} …}: 'all', 'more' (to be asked for
-- after the last one), or 'lost': some of it was trimmed.
--
-- The publication on the node's own channel shows it when all that was published before has been received.
local MOST = 1000

local function after(stream, position)
  return redis.call('XRANGE', stream, '(' .. position .. '-0', '+', 'COUNT', MOST)
end

local sent = {}
for _, item in ipairs(after(key('sent', ARGV[2]), ARGV[3])) do sent[#sent + 1] = item[2][2] end
local newest = number(redis.call('HGET', META, 'position'))
redis.call('PUBLISH', key('to', ARGV[2]), '[0,' .. text(newest) .. ',"probe"]\n')
local reply = {newest, running(), sent}
for at = 4, #ARGV, 2 do
  local room, position = ARGV[at], ARGV[at + 1]
  local known = redis.call('HMGET', key('room', room), 'last', 'mt', 'nt')
  if number(known[1]) > tonumber(position) then
    local lost = math.max((read_state(known[2])), (read_state(known[3]))) > tonumber(position)
    local found, last = {room, lost and 'lost' or 'all'}, math.huge
    local kinds = {after(key('logm', room), position), after(key('logn', room), position)}
    for _, entries in ipairs(kinds) do
      if #entries == MOST then
        last = math.min(last, number(string.sub(entries[MOST][1], 1, -3)))
        if not lost then found[2] = 'more' end
      end
    end
    for _, entries in ipairs(kinds) do
      for _, item in ipairs(entries) do
        local at, entry = number(string.sub(item[1], 1, -3)), entry_fields(item[2])
        if at <= last then found[#found + 1] = {at, number(entry.p), entry.e, entry.a, entry.b} end
      end
    end
    reply[#reply + 1] = found
  end
end
return reply
