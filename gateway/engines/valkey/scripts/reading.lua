-- What scripts that read have in common.

-- A room's {version, name, kind, history, pair, count, last}.
local function room_of(id)
  return redis.call('HMGET', key('room', id), 'v', 'name', 'kind', 'history', 'pair', 'count', 'last')
end

-- {username, whether it is online, …}
local function members_shown(usernames)
  local found = {}
  for _, username in ipairs(usernames) do
    found[#found + 1] = username
    found[#found + 1] = redis.call('ZSCORE', key('online'), username) and 1 or 0
  end
  return found
end

-- What a user's hash has of a session ('sid username'), as `records.encode_session` writes it down; the username, and the
-- field. Nil if there is no such session.
local function session_record(session)
  local sid, username = string.match(session, '^(%S+) (.*)$')
  local record = redis.call('HGET', key('user', username), 's' .. sid)
  if not record then return nil end
  return cjson.decode(record), username, 's' .. sid
end
