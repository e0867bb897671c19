-- ARGV: shift, limit. Returns {position, running, {session, node, …}}: 'sid username' of those that are live on a node
-- whose lease was taken, and that node.
local found, limit = {}, tonumber(ARGV[2])
for _, gone in ipairs(redis.call('SMEMBERS', key('gone'))) do
  local sessions = redis.call('SRANDMEMBER', key('live', gone), limit - #found / 2)
  if #sessions == 0 then redis.call('SREM', key('gone'), gone) end
  for _, session in ipairs(sessions) do
    found[#found + 1] = session
    found[#found + 1] = gone
  end
  if #found / 2 >= limit then break end
end
return {number(redis.call('HGET', META, 'position')), running(), found}
