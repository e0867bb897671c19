-- Commit what rules have written, if what they have read still holds.
--
-- ARGV: shift, node, epoch, checks and writes as JSON arrays, history size, history bytes, retry window in ms, decline
-- window in ms. A check is {key kind, name ('' for none), field, value}: that field of that hash must have that value ('' for none).
-- A write is {function below, arguments …}.
-- Returns {status, position, checks that failed …}. Status: 'done', 'conflict' (nothing was written) or 'fenced'.
local node = ARGV[2]
local position = position_for(node, ARGV[3])
if not position then return {'fenced'} end

local failed = {'conflict', 0}
for _, check in ipairs(cjson.decode(ARGV[4])) do
  local name = check[2] ~= '' and check[2] or nil
  if (redis.call('HGET', key(check[1], name), check[3]) or '') ~= check[4] then
    failed[#failed + 1] = check[1]
    failed[#failed + 1] = check[2]
  end
end
if #failed > 2 then return failed end

local history_size, history_bytes, retry, decline =
  tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local version = text(position + 1)

local function take_position()
  position = position + 1
  return position
end

-- Send something to a node, in the order of its channel. `rest`: JSON without the opening bracket.
local function send(to, rest, body)
  local at, sent = take_position(), key('sent', to)
  local last = redis.call('XREVRANGE', sent, '+', '-', 'COUNT', 1)[1]
  local previous = last and string.sub(last[1], 1, -3) or '0'
  local message = '[' .. text(at) .. ',' .. previous .. ',' .. rest .. ']\n' .. (body or '')
  redis.call('XADD', sent, 'MAXLEN', '~', 4096, text(at) .. '-0', 'm', message)
  redis.call('PUBLISH', key('to', to), message)
end

-- The nodes on which each of these users has a live session: {node = {username, …}}.
local function nodes_of(usernames)
  local found = {}
  for _, username in ipairs(usernames) do
    local where = redis.call('HGET', key('where'), username)
    if where then
      for _, at in ipairs(cjson.decode(where)) do
        found[at] = found[at] or {}
        table.insert(found[at], username)
      end
    end
  end
  return found
end

local function list(names)
  if #names == 0 then return '[]' end
  return cjson.encode(names)
end

-- Tell the nodes of users that they are in a room from here on, or no longer.
local function move(room, joined, left)
  local known = redis.call('HMGET', key('room', room), 'name', 'last')
  for at, usernames in pairs(nodes_of(joined or left)) do
    local names = list(usernames)
    local moved = joined and (names .. ',[]') or ('[],' .. names)
    send(at, '"move",' .. room .. ',' .. cjson.encode(known[1]) .. ',' .. (known[2] or '0') .. ',' .. moved)
  end
end

local function touch(kind, name)
  redis.call('HSET', key(kind, name), 'v', version)
end

local function drop_if_empty(username)
  if redis.call('HLEN', key('user', username)) == 1 then redis.call('DEL', key('user', username)) end
end

-- Its place in a session, as `records.encode_session` writes it down.
local MISSED_BY_LEAVING = 7

local writes = {}

function writes.put_session(username, sid, session)
  redis.call('HSET', key('user', username), 's' .. sid, session, 'v', version)
end

function writes.delete_session(username, sid)
  redis.call('HDEL', key('user', username), 's' .. sid)
  touch('user', username)
  drop_if_empty(username)
end

-- As `Sessions.note_leaving`.
function writes.note_leaving(username, sids, room, joined, invited)
  local newest = 0
  for _, kind in ipairs({'m', 'n'}) do
    local at, _, _, other, _, author = read_state(redis.call('HGET', key('room', room), kind))
    newest = math.max(newest, author == username and other or at)
  end
  local received = newest > joined and newest or (invited and joined or 0)
  for _, sid in ipairs(sids) do
    local session = cjson.decode(redis.call('HGET', key('user', username), 's' .. sid))
    if received > session[MISSED_BY_LEAVING] then
      session[MISSED_BY_LEAVING] = received
      redis.call('HSET', key('user', username), 's' .. sid, cjson.encode(session))
    end
  end
end

-- The nodes on which a user has a live session.
function writes.set_nodes(username, nodes)
  if #nodes == 0 then
    redis.call('HDEL', key('where'), username)
    redis.call('ZREM', key('online'), username)
  else
    redis.call('HSET', key('where'), username, cjson.encode(nodes))
    redis.call('ZADD', key('online'), 0, username)
  end
end

-- What is suspended, since when; and what is live on which node.
function writes.suspend(session, since)
  redis.call('ZADD', key('suspended'), text(since), session)
end

function writes.unsuspend(session)
  redis.call('ZREM', key('suspended'), session)
end

function writes.hold(at, session)
  redis.call('SADD', key('live', at), session)
end

function writes.release(at, session)
  redis.call('SREM', key('live', at), session)
  redis.call('SREM', key('live', LOST), session)
end

function writes.create_room(room, name, kind, history, pair)
  redis.call('HSET', key('names'), name, room)
  redis.call('HSET', key('room', room), 'v', version, 'name', name, 'kind', kind, 'history', history, 'count', 0)
  if pair ~= cjson.null then
    redis.call('HSET', key('room', room), 'pair', pair)
    redis.call('HSET', key('pairs'), pair, room)
  end
end

function writes.delete_room(room)
  local known = redis.call('HMGET', key('room', room), 'name', 'pair')
  redis.call('HDEL', key('names'), known[1])
  if known[2] then redis.call('HDEL', key('pairs'), known[2]) end
  redis.call('UNLINK', key('room', room), key('members', room), key('logm', room), key('logn', room),
    key('invitations', room), key('sent ids', room), key('trimmed ids', room))
end

-- `body` is null, or the `room-joined` event of people whom `author` adds: each gets a position of its own for it.
function writes.add_members(room, usernames, peer, event, body, author)
  local invited = body ~= cjson.null
  for _, username in ipairs(usernames) do
    local joined = invited and take_position() or position
    local membership = '[' .. text(joined) .. ',' .. (invited and 'true' or 'false') .. ',' .. cjson.encode(peer) .. ']'
    redis.call('HSET', key('user', username), 'm' .. room, membership, 'v', version)
    redis.call('ZADD', key('members', room), 0, username)
    if invited then
      redis.call('HSET', key('invitations', room), username, text(joined) .. ' ' .. event .. '\n' .. body)
      local name = cjson.encode(redis.call('HGET', key('room', room), 'name'))
      for at, names in pairs(nodes_of({username})) do
        send(at, '"event",' .. text(joined) .. ',' .. cjson.encode(event) .. ',' .. cjson.encode(author) .. ',' ..
          list(names) .. ',' .. name, body)
      end
    end
  end
  redis.call('HINCRBY', key('room', room), 'count', #usernames)
  touch('room', room)
  move(room, usernames, nil)
end

function writes.remove_member(username, rooms)
  for _, room in ipairs(rooms) do
    redis.call('HDEL', key('user', username), 'm' .. room)
    redis.call('ZREM', key('members', room), username)
    redis.call('HDEL', key('invitations', room), username)
    redis.call('HINCRBY', key('room', room), 'count', -1)
    touch('room', room)
    move(room, nil, {username})
  end
  touch('user', username)
  drop_if_empty(username)
end

function writes.append(room, event, author, body)
  local count, size =
    append(room, log_of(room, 'n'), 'n', take_position(), event, author, cjson.encode(author), '', body, 0)
  trim(room, 'n', count, size, history_size, history_bytes, retry)
end

function writes.publish(room, event, author, body)
  redis.call('PUBLISH', key('in', room),
    '[0,' .. text(position) .. ',' .. cjson.encode(event) .. ',' .. cjson.encode(author) .. ']\n' .. body)
end

function writes.note_departure(place, username)
  local departures, time = key('departures', username), now()
  redis.call('ZADD', departures, text(time), place)
  redis.call('ZREMRANGEBYSCORE', departures, '-inf', text(time - decline))
  redis.call('ZREMRANGEBYRANK', departures, 0, -1001)
  redis.call('PEXPIRE', departures, decline + 1)
end

function writes.forget_departure(place, username)
  redis.call('ZREM', key('departures', username), place)
end

function writes.forget_departures(username)
  redis.call('DEL', key('departures', username))
end

-- A session is live on a connection of this node, which keeps the rest of the attachment under `token`.
function writes.attach(token)
  send(node, '"attach",' .. cjson.encode(token))
end

-- A session has moved from a connection of another node.
function writes.replace(at, connection)
  send(at, '"replace",' .. cjson.encode(connection))
end

local any = false
for _, write in ipairs(cjson.decode(ARGV[5])) do
  any = true
  writes[write[1]](unpack(write, 2))
end
if any then
  position = math.max(position, tonumber(version))
  redis.call('HSET', META, 'position', text(position))
  redis.call('PUBLISH', key('to', node), '[0,' .. text(position) .. ',"probe"]\n')
end
return {'done', position}
