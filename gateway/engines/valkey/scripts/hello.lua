-- A node comes, or has a new connection. ARGV: shift, node, address, run of the server, name for a new epoch,
-- 1 where the identity is a new one, and random bytes for the secret of the nodes, if they have none.
-- Returns {position, running, {epoch, first, epoch, first, …}, secret, server's time in ms, when recovery windows begin};
-- or {'fenced'} where the node is to take a new identity, since others have taken its lease; or {'importing'} where a
-- migration into the store was not completed.
--
-- A server that has started since the newest epoch began, or one that was emptied, gets a new epoch: it may lack what
-- clients have seen. An offset is good up to the end of its epoch, which is where the next one begins here.
local node, address, run, fresh = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('HEXISTS', META, 'importing') == 1 then return {'importing'} end
if ARGV[6] == '0' and not redis.call('ZSCORE', key('leases'), node) then return {'fenced'} end
local position = number(redis.call('HGET', META, 'position'))
if redis.call('HGET', META, 'run') ~= run then
  redis.call('RPUSH', key('epochs'), fresh, text(position))
  redis.call('LTRIM', key('epochs'), -2000, -1)
  redis.call('HSET', META, 'epoch', fresh, 'run', run)
end
local time, running_ms = count_beat()
if redis.call('ZCOUNT', key('leases'), text(time), '+inf') == 0 then
  redis.call('HSET', META, 'windows', text(running_ms))
end
redis.call('ZADD', key('leases'), text(time + LEASE), node)
redis.call('HSET', key('node', node), 'address', address)
redis.call('HSETNX', META, 'secret', ARGV[7])
return {position, running_ms, redis.call('LRANGE', key('epochs'), 0, -1), redis.call('HGET', META, 'secret'), time,
  number(redis.call('HGET', META, 'windows'))}
