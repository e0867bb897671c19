-- Append messages to rooms and publish them, in order (see `Engine.append_message`).
--
-- ARGV: shift, node, epoch, history size, history bytes, retry window in ms; then of each message: author, author as
-- JSON, message id as JSON or '', random part of an id, the body's part from the author on up to its time, how many
-- spellings of the room's name to look for, and each of these with its JSON.
-- Returns {'fenced'}, or 'done' and three numbers for each message: its position, time, and the index of the spelling.
-- A position of 0: it was sent before, at that time; of -1: its author is a member of no such room; of -2: the author has
-- no live session on this node.
local newest = position_for(ARGV[2], ARGV[3])
if not newest then return {'fenced'} end
local history_size, history_bytes, retry = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local position, time = newest, now()
local replies, filled = {'done'}, 1

local function reply(at, ts, index)
  replies[filled + 1], replies[filled + 2], replies[filled + 3] = at, ts, index
  filled = filled + 3
end

-- The room that the author is a member of, and which of the spellings, from `first` on, it has.
local function find_room(author, first, count)
  local user, names = key('user', author), key('names')
  for index = 0, count - 1 do
    local room = redis.call('HGET', names, ARGV[first + 2 * index])
    if room and redis.call('HEXISTS', user, 'm' .. room) == 1 then return room, index end
  end
end

local mine = '"' .. ARGV[2] .. '"'

local function is_here(author)
  local nodes = redis.call('HGET', key('where'), author)
  return nodes and string.find(nodes, mine, 1, true)
end

local function send(room, name, author, author_json, id, random, rest)
  position = position + 1
  local log = log_of(room, 'm')
  local ts, shown = math.max(time, log.ts), id
  if id == '' then shown = '"' .. random .. '.' .. text(position) .. '"' end
  local body = '{"id":' .. shown .. ',"room":' .. name .. rest .. text(ts) .. '}'
  local count, size = append(room, log, 'm', position, 'message', author, author_json, id, body, ts)
  if id ~= '' then note_sent(room, author, id, position, ts) end
  trim(room, 'm', count, size, history_size, history_bytes, retry)
  return ts
end

local at = 7
while at <= #ARGV do
  local author, id, spellings = ARGV[at], ARGV[at + 2], tonumber(ARGV[at + 5])
  local room, index = find_room(author, at + 6, spellings)
  local sent = room and id ~= '' and find_sent(room, author, id)
  if not room then
    reply(-1, 0, 0)
  elseif sent then
    reply(0, sent, index)
  elseif not is_here(author) then
    reply(-2, 0, 0)
  else
    local ts = send(room, ARGV[at + 7 + 2 * index], author, ARGV[at + 1], id, ARGV[at + 3], ARGV[at + 4])
    reply(position, ts, index)
  end
  at = at + 6 + 2 * spellings
end
if position > newest then redis.call('HSET', META, 'position', text(position)) end
return replies
