-- ARGV: shift, node. Returns {position, running, {session, connection, …}}: 'sid username' of those that are live on the
-- node, and the connection of each.
local found = {}
for _, session in ipairs(redis.call('SMEMBERS', key('live', ARGV[2]))) do
  local record = session_record(session)
  if record and record[3] ~= cjson.null then
    found[#found + 1] = session
    found[#found + 1] = record[3][1]
  end
end
return {number(redis.call('HGET', META, 'position')), running(), found}
