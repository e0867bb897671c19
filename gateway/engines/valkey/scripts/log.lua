-- The log of a room: a stream of its messages ('m') and one of its notices ('n'), whose ids are positions.
--
-- Fields of an entry:
--   a, b  author, body;  e  event, if it is a notice;  i  the message id that its author chose, if any, as JSON
--   k     the position of the entry before it in the room, of either kind, and count, size and other as below
-- Fields of the room's hash: `last` is the position of its newest entry; `m` and `n` are the states of the streams, and
-- `mt` and `nt` those as of the newest entry that was trimmed. A state is "position count size other ts author":
--   count, size  how many entries of its kind there were in the room with it, and their size in bytes
--   other        the position of the newest entry of its kind before it by another author
--   ts           the time of the newest message (0 for notices)
-- Few long fields are written much faster than many short ones.

-- A state: position, count, size, other, ts, author.
local function read_state(state)
  if not state then return 0, 0, 0, 0, 0, '' end
  local position, count, size, other, ts, author = string.match(state, '^(%d+) (%d+) (%d+) (%d+) (%d+) (.*)$')
  return tonumber(position), tonumber(count), tonumber(size), tonumber(other), tonumber(ts), author
end

local function write_state(position, count, size, other, ts, author)
  return string.format('%d %d %d %d %d ', position, count, size, other, ts) .. author
end

-- An entry by its fields, and its p (the position of the entry before it), c, z and o: count, size and other, as text.
local function entry_fields(fields)
  local entry = {e = 'message', i = ''}
  for at = 1, #fields, 2 do entry[fields[at]] = fields[at + 1] end
  entry.p, entry.c, entry.z, entry.o = string.match(entry.k, '^(%d+) (%d+) (%d+) (%d+)$')
  return entry
end

-- What appending needs to know of a room.
local function log_of(room, kind)
  local fields = redis.call('HMGET', key('room', room), 'last', kind, kind .. 't')
  local position, count, size, other, ts, author = read_state(fields[2])
  local _, trimmed_count, trimmed_size = read_state(fields[3])
  return {last = fields[1] or '0', position = position, count = count, size = size, other = other, ts = ts, author = author,
    trimmed_count = trimmed_count, trimmed_size = trimmed_size}
end

-- Append an entry to a room whose `log` was read, and publish it to the nodes that have members of the room: [position,
-- previous, event, author] in JSON, a line feed, and the body. Returns how many entries of its kind the room has now, and
-- their size.
local function append(room, log, kind, position, event, author, author_json, id, body, ts)
  local at, other = text(position), log.position
  if log.author == author then other = log.other end
  local count, size = log.count + 1, log.size + #body
  local fields = {'a', author, 'b', body, 'k', string.format('%s %d %d %d', log.last, count, size, other)}
  if kind == 'n' then fields[7], fields[8] = 'e', event end
  if id ~= '' then fields[7], fields[8] = 'i', id end
  redis.call('XADD', key('log' .. kind, room), at .. '-0', unpack(fields))
  redis.call('HSET', key('room', room), 'last', at, kind, write_state(position, count, size, other, ts, author))
  redis.call('PUBLISH', key('in', room), '[' .. at .. ',' .. log.last .. ',"' .. event .. '",' .. author_json .. ']\n' .. body)
  return count - log.trimmed_count, size - log.trimmed_size
end

-- When an author sent a message with that id to the room, in ms; nil if it did not, or before it became a member.
local function find_sent(room, author, id)
  local known = redis.call('HGET', key('sent ids', room), id)
  if not known then return nil end
  local member = redis.call('HGET', key('user', author), 'm' .. room)
  local joined = member and cjson.decode(member)[1] or 0
  for _, sent in ipairs(cjson.decode(known)) do
    if sent[1] == author and sent[2] > joined then return sent[3] end
  end
  return nil
end

local function note_sent(room, author, id, position, ts)
  local known = redis.call('HGET', key('sent ids', room), id)
  local all = known and cjson.decode(known) or {}
  all[#all + 1] = {author, position, ts}
  redis.call('HSET', key('sent ids', room), id, cjson.encode(all))
end

-- Forget ids whose messages were trimmed longer ago than a client may take to send them again.
local function forget_sent(room, oldest)
  local old = redis.call('ZRANGEBYSCORE', key('trimmed ids', room), '-inf', text(oldest), 'LIMIT', 0, 8)
  local trimmed = read_state(redis.call('HGET', key('room', room), 'mt'))
  for _, id in ipairs(old) do
    redis.call('ZREM', key('trimmed ids', room), id)
    local kept = {}
    for _, sent in ipairs(cjson.decode(redis.call('HGET', key('sent ids', room), id) or '[]')) do
      if sent[2] > trimmed then kept[#kept + 1] = sent end
    end
    if #kept == 0 then
      redis.call('HDEL', key('sent ids', room), id)
    else
      redis.call('HSET', key('sent ids', room), id, cjson.encode(kept))
    end
  end
end

-- Delete the oldest entries beyond the bounds, a few at a time; there are `count`, of `size` bytes. The newest is kept.
local function trim(room, kind, count, size, max_count, max_size, retry)
  local place, stream = key('room', room), key('log' .. kind, room)
  for _ = 1, 16 do
    if count <= max_count and (size <= max_size or count <= 1) then return end
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if not oldest then return end
    local entry = entry_fields(oldest[2])
    redis.call('XDEL', stream, oldest[1])
    count, size = count - 1, size - #entry.b
    redis.call('HSET', place, kind .. 't',
      write_state(string.sub(oldest[1], 1, -3), entry.c, entry.z, entry.o, 0, entry.a))
    if entry.i ~= '' then
      redis.call('ZADD', key('trimmed ids', room), text(running()), entry.i)
      forget_sent(room, running() - retry)
    end
  end
end
