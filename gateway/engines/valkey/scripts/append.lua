-- Append a message to a room and publish it (see `Engine.append_message`).
--
-- ARGV: shift, node, epoch, author, author as JSON, message id as JSON or '', random part of an id, the body's part from
-- the author on up to its time, history size, history bytes, retry window in ms, then pairs of a room's name and its
-- JSON: the spellings to look for, in order.
-- Returns {status, position, time, index of the spelling}. Status: 'sent', 'duplicate', 'fenced', or 'none'.
local author, id = ARGV[4], ARGV[6]
local newest = position_for(ARGV[2], ARGV[3])
if not newest then return {'fenced'} end
local room, spelling
for at = 12, #ARGV, 2 do
  local found = redis.call('HGET', key('names'), ARGV[at])
  if found and redis.call('HEXISTS', key('user', author), 'm' .. found) == 1 then
    room, spelling = found, at
    break
  end
end
if not room then return {'none'} end
local index = (spelling - 12) / 2
if id ~= '' then
  local sent = find_sent(room, author, id)
  if sent then return {'duplicate', 0, sent, index} end
end
local position, ts = newest + 1, now()
local shown = id
if id == '' then shown = '"' .. ARGV[7] .. '.' .. text(position) .. '"' end
local function write(newest_ts)
  ts = math.max(ts, newest_ts)
  return '{"id":' .. shown .. ',"room":' .. ARGV[spelling + 1] .. ARGV[8] .. text(ts) .. '}', text(ts)
end
redis.call('HSET', META, 'position', text(position))
local count, size = append(room, 'm', position, 'message', author, ARGV[5], id, write)
if id ~= '' then note_sent(room, author, id, position, ts) end
trim(room, 'm', count, size, tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]))
return {'sent', position, ts, index}
