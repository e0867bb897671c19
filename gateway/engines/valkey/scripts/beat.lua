-- A node shows that it lives: its lease is extended, and leases that are over are taken. ARGV: shift, node, epoch,
-- address where the node is reached. Returns {position, running, {node, address, node, address, …} of all nodes that live,
-- server's time in ms}, or {} if this node is fenced.
--
-- The publication on the node's own channel is the probe of its subscription.
local node, epoch = ARGV[2], ARGV[3]
if fenced(node, epoch) then return {} end
local time, running_ms = count_beat()
redis.call('ZADD', key('leases'), text(time + LEASE), node)
local moved = redis.call('HGET', key('node', node), 'address') ~= ARGV[4]
redis.call('HSET', key('node', node), 'address', ARGV[4])
local position = number(redis.call('HGET', META, 'position'))
redis.call('PUBLISH', key('to', node), '[0,' .. text(position) .. ',"probe"]\n')
local expired = {}
if time > number(redis.call('HGET', META, 'grace')) then
  expired = redis.call('ZRANGEBYSCORE', key('leases'), '-inf', text(time))
end
for _, gone in ipairs(expired) do
  redis.call('ZREM', key('leases'), gone)
  redis.call('DEL', key('node', gone), key('sent', gone))
  redis.call('SADD', key('gone'), gone)
end
local nodes = {}
for _, other in ipairs(redis.call('ZRANGE', key('leases'), 0, -1)) do
  nodes[#nodes + 1] = other
  nodes[#nodes + 1] = redis.call('HGET', key('node', other), 'address') or ''
  if moved and other ~= node then redis.call('PUBLISH', key('to', other), '[0,' .. text(position) .. ',"nodes"]\n') end
end
return {position, running_ms, nodes, time}
