-- ARGV: shift, then usernames. Returns {position, running, {username, is online, …}}.
local names = {}
for at = 2, #ARGV do names[#names + 1] = ARGV[at] end
return {number(redis.call('HGET', META, 'position')), running(), members_shown(names)}
