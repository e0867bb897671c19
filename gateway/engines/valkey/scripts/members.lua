-- ARGV: shift, number of members of each, then rooms and the name after which to begin ('' for the first), in pairs.
-- Returns {position, running, {username, is online, …}, …}.
local reply = {number(redis.call('HGET', META, 'position')), running()}
for at = 3, #ARGV, 2 do
  local first = ARGV[at + 1] == '' and '-' or '(' .. ARGV[at + 1]
  local names = redis.call('ZRANGEBYLEX', key('members', ARGV[at]), first, '+', 'LIMIT', 0, ARGV[2])
  reply[#reply + 1] = members_shown(names)
end
return reply
