-- Read streams backwards, without what the reader wrote. ARGV: shift, reader, limit and size of each, then for each
-- stream its room, kind, low and high. Returns {position, running, {complete, position, event, body, …}, …}.
local reader, limit, size = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local CHUNK = 32

local function read(room, kind, low, high)
  local found, bytes, count = {1}, 0, 0
  while high > low do
    local entries = redis.call('XREVRANGE', key('log' .. kind, room), text(high) .. '-0', text(low + 1) .. '-0', 'COUNT',
      CHUNK)
    local skipped = false
    for _, item in ipairs(entries) do
      local entry = entry_fields(item[2])
      if entry.a == reader then
        high, skipped = number(entry.o), true
        break
      end
      count, bytes = count + 1, bytes + #entry.b
      found[#found + 1] = number(string.sub(item[1], 1, -3))
      found[#found + 1] = entry.e
      found[#found + 1] = entry.b
      high = found[#found - 2] - 1
      if count == limit or bytes >= size then
        found[1] = 0
        return found
      end
    end
    if #entries < CHUNK and not skipped then return found end
  end
  return found
end

local reply = {number(redis.call('HGET', META, 'position')), running()}
for at = 5, #ARGV, 4 do
  reply[#reply + 1] = read(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
end
return reply
