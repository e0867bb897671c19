-- ARGV: shift, prefix, most of each, most of all, then rooms ('' for all users who are online).
-- Returns {position, running, {username, is online, …}} in order of the rooms, and of names in each.
local prefix, each, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local found = {}
for at = 5, #ARGV do
  local names = ARGV[at] == '' and key('online') or key('members', ARGV[at])
  local most = math.min(each, limit - #found)
  if most <= 0 then break end
  for _, name in ipairs(redis.call('ZRANGEBYLEX', names, '[' .. prefix, '[' .. prefix .. '\255', 'LIMIT', 0, most)) do
    found[#found + 1] = name
  end
end
return {number(redis.call('HGET', META, 'position')), running(), members_shown(found)}
