-- Treat sessions that are live on a node as those of a node that is gone: their connections are not there. ARGV: shift,
-- node, then sessions ('sid username') and their connections in pairs. One that has moved since stays as it is.
local position = number(redis.call('HGET', META, 'position'))
for at = 3, #ARGV, 2 do
  local session, connection = ARGV[at], ARGV[at + 1]
  local record, username, field = session_record(session)
  if record and record[3] ~= cjson.null and record[3][1] == connection and record[3][2] == ARGV[2] then
    position = position + 1
    record[3] = {connection, LOST}
    redis.call('HSET', key('user', username), field, cjson.encode(record), 'v', text(position))
    redis.call('SMOVE', key('live', ARGV[2]), key('live', LOST), session)
    redis.call('SADD', key('gone'), LOST)
  end
end
redis.call('HSET', META, 'position', text(position))
return 1
