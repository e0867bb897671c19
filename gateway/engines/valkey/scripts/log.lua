-- The log of a room: a stream of its messages ('m') and one of its notices ('n'), whose ids are positions.
--
-- Fields of an entry:
--   e, a, b  event, author, body;  i  the message id that its author chose, as JSON
--   p        the position of the entry before it in the room, of either kind
--   c, z     how many entries of its kind there were in the room with it, and their size in bytes
--   o        the position of the newest entry of its kind before it by another author
-- Fields of the room's hash, for each kind: those of its newest entry (mp: position, ma, mc, mz, mo) and of the newest
-- that was trimmed (mtp, mta, mtc, mtz, mto); `last` is the position of its newest entry.

local function entry_fields(fields)
  local entry = {}
  for at = 1, #fields, 2 do entry[fields[at]] = fields[at + 1] end
  return entry
end

-- The fields of a room's hash that appending needs.
local function log_of(room, kind)
  return redis.call('HMGET', key('room', room), 'last', kind .. 'p', kind .. 'a', kind .. 'c', kind .. 'z', kind .. 'o',
    kind .. 'tc', kind .. 'tz', 'ts')
end

-- Append an entry to a room, of which `known` are those fields, and publish it to the nodes that have members of the
-- room: [position, previous, event, author] in JSON, a line feed, and the body. `ts`: the time of a message. Returns how
-- many entries of its kind the room has now, and their size.
local function append(room, known, kind, position, event, author, author_json, id, body, ts)
  local at, last, other = text(position), known[1] or '0', known[2] or '0'
  if known[3] == author then other = known[6] end
  local count, size = number(known[4]) + 1, number(known[5]) + #body
  local count_text, size_text = text(count), text(size)
  redis.call('XADD', key('log' .. kind, room), at .. '-0',
    'e', event, 'a', author, 'b', body, 'i', id, 'p', last, 'c', count_text, 'z', size_text, 'o', other)
  redis.call('HSET', key('room', room), 'last', at, 'ts', ts,
    kind .. 'p', at, kind .. 'a', author, kind .. 'c', count_text, kind .. 'z', size_text, kind .. 'o', other)
  redis.call('PUBLISH', key('in', room), '[' .. at .. ',' .. last .. ',"' .. event .. '",' .. author_json .. ']\n' .. body)
  return count - number(known[7]), size - number(known[8])
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
  local trimmed = number(redis.call('HGET', key('room', room), 'mtp'))
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
    redis.call('HSET', place, kind .. 'tp', string.sub(oldest[1], 1, -3), kind .. 'ta', entry.a, kind .. 'tc', entry.c,
      kind .. 'tz', entry.z, kind .. 'to', entry.o)
    if entry.i ~= '' then
      redis.call('ZADD', key('trimmed ids', room), text(running()), entry.i)
      forget_sent(room, running() - retry)
    end
  end
end
