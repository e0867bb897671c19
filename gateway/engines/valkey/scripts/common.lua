-- Stands before every other script of this folder.
--
-- KEYS[1] is the store's hash, `{prefix}:meta`. Every other key has the same hash tag, and so is in the same slot of a
-- cluster. ARGV[1] is by how much tests have moved time, in ms (0 outside tests); a script's own arguments follow.
--
-- Fields of the store's hash:
--   position       the newest position: every publication and every commit takes the next one
--   epoch, run     the epoch that names the positions, and the run of the server in which it began
--   running, beat  the running time at the last heartbeat of any node, and the server's time then, in ms
--   windows        the running time when the first node came back after none was there: recovery windows begin then
--   grace          until when no lease is taken, by the server's time in ms
--   importing      while a migration writes the store, and after one that was interrupted: no node may use it

local META = KEYS[1]
local PREFIX = string.sub(META, 1, -5)
local LEASE = 7000

-- In the place of a node: what is live on no connection.
local LOST = 'lost'

local function key(kind, name)
  if name == nil then return PREFIX .. kind end
  return PREFIX .. kind .. ':' .. name
end

local function number(value)
  return tonumber(value or 0)
end

-- The server's clock, in ms: those of the nodes may differ.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Unix time in ms.
local function now()
  return clock() + tonumber(ARGV[1])
end

-- For how long nodes have used the store, in ms: it stands still while none does.
local function running()
  local meta = redis.call('HMGET', META, 'running', 'beat')
  return number(meta[1]) + math.min(math.max(clock() - number(meta[2]), 0), LEASE) + tonumber(ARGV[1])
end

-- Integers as strings: Lua writes large ones with an exponent.
local function text(value)
  return string.format('%d', value)
end

-- Count a heartbeat of any node. When there was none for a while, the server could not be reached: all have some time to
-- come back before their leases are taken.
local function count_beat()
  local time, running_ms = clock(), running()
  if time - number(redis.call('HGET', META, 'beat')) > LEASE / 2 then
    redis.call('HSET', META, 'grace', text(time + LEASE))
  end
  redis.call('HSET', META, 'running', text(running_ms - tonumber(ARGV[1])), 'beat', text(time))
  return time, running_ms
end

-- The newest position, for a node that may write: its lease was not taken, and the epoch it knows is the newest. Else nil:
-- the node is fenced.
local function position_for(node, epoch)
  local meta = redis.call('HMGET', META, 'epoch', 'position')
  if meta[1] ~= epoch or not redis.call('ZSCORE', key('leases'), node) then return nil end
  return number(meta[2])
end
