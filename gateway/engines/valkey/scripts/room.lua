-- ARGV: shift, 'names' or 'pairs', value. Returns {position, running, id, room as `room_of` reads it}; the id is '' where
-- there is none.
local position, running_ms = number(redis.call('HGET', META, 'position')), running()
local id = redis.call('HGET', key(ARGV[2]), ARGV[3])
if not id then return {position, running_ms, '', {}} end
return {position, running_ms, id, room_of(id)}
