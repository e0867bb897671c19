-- ARGV: shift, room, id as JSON, after, position that the id names (0 for none). Returns {position, running, {position,
-- …}, author and body of the message at the last one, if any}.
local found, oldest = {}, read_state(redis.call('HGET', key('room', ARGV[2]), 'mt'))
local known = redis.call('HGET', key('sent ids', ARGV[2]), ARGV[3])
for _, sent in ipairs(known and cjson.decode(known) or {}) do
  if sent[2] > tonumber(ARGV[4]) and sent[2] > oldest then found[#found + 1] = sent[2] end
end
local at = redis.call('XRANGE', key('logm', ARGV[2]), ARGV[5] .. '-0', ARGV[5] .. '-0')[1]
local body = ''
if at and ARGV[5] ~= '0' then
  local entry = entry_fields(at[2])
  if entry.i == '' then body = entry.b end
end
return {number(redis.call('HGET', META, 'position')), running(), found, body}
