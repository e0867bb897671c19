-- ARGV: shift, running time in ms, limit. Returns {position, running, {session, …}}: 'sid username' of those that were
-- suspended at that time or before, the earliest first.
return {number(redis.call('HGET', META, 'position')), running(),
  redis.call('ZRANGEBYSCORE', key('suspended'), '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])}
