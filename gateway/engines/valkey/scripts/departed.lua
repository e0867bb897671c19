-- ARGV: shift, decline window in ms, place, then usernames. Returns {position, running, {username, …}} of those who left
-- the place within the window.
local found, oldest = {}, now() - tonumber(ARGV[2])
for at = 4, #ARGV do
  local left = redis.call('ZSCORE', key('departures', ARGV[at]), ARGV[3])
  if left and tonumber(left) > oldest then found[#found + 1] = ARGV[at] end
end
return {number(redis.call('HGET', META, 'position')), running(), found}
