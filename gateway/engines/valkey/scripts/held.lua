-- ARGV: shift, node. Returns {position, running, {session, …}}: 'sid username' of those that are live on the node.
return {number(redis.call('HGET', META, 'position')), running(), redis.call('SMEMBERS', key('live', ARGV[2]))}
