-- A node stops: its lease ends, and others suspend what is still live on it. ARGV: shift, node.
local node = ARGV[2]
if redis.call('ZREM', key('leases'), node) == 1 then
  redis.call('DEL', key('node', node), key('sent', node))
  redis.call('SADD', key('gone'), node)
end
return 1
