-- A page of messages, newest first. ARGV: shift, room, after, before ('+' for no bound), limit. Returns {position,
-- running, newest count, newest size, position, count, size, body, …}.
local _, newest_count, newest_size = read_state(redis.call('HGET', key('room', ARGV[2]), 'm'))
local reply = {number(redis.call('HGET', META, 'position')), running(), newest_count, newest_size}
local high = ARGV[4] == '+' and '+' or text(tonumber(ARGV[4]) - 1) .. '-0'
if ARGV[4] ~= '+' and tonumber(ARGV[4]) < 1 then return reply end
local low = text(tonumber(ARGV[3]) + 1) .. '-0'
for _, item in ipairs(redis.call('XREVRANGE', key('logm', ARGV[2]), high, low, 'COUNT', ARGV[5])) do
  local entry = entry_fields(item[2])
  reply[#reply + 1] = number(string.sub(item[1], 1, -3))
  reply[#reply + 1] = number(entry.c)
  reply[#reply + 1] = number(entry.z)
  reply[#reply + 1] = entry.b
end
return reply
