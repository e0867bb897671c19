-- ARGV: shift, then rooms and usernames in pairs. Returns {position, running, 'position event\nbody', …}.
local reply = {number(redis.call('HGET', META, 'position')), running()}
for at = 2, #ARGV, 2 do
  reply[#reply + 1] = redis.call('HGET', key('invitations', ARGV[at]), ARGV[at + 1]) or ''
end
return reply
