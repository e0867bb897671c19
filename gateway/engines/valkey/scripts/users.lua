-- ARGV: shift, then usernames. Returns {position, running, user, …}; a user is {fields of its hash, rooms}, and its
-- rooms are {id, room, id, room, …} as `room_of` reads them.
local reply = {number(redis.call('HGET', META, 'position')), running()}
for at = 2, #ARGV do
  local fields = redis.call('HGETALL', key('user', ARGV[at]))
  local rooms = {}
  for field = 1, #fields, 2 do
    if string.sub(fields[field], 1, 1) == 'm' then
      local id = string.sub(fields[field], 2)
      rooms[#rooms + 1] = id
      rooms[#rooms + 1] = room_of(id)
    end
  end
  reply[#reply + 1] = {fields, rooms}
end
return reply
