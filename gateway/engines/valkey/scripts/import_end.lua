-- What an importer has written becomes the store. ARGV: shift, token, newest position, running time in ms.
-- Returns 1, or 0 where the importer has lost the lock.
--
-- The last heartbeat is in the far future, so that the running time stands still until the first node comes.
if redis.call('GET', key('importer')) ~= ARGV[2] then return 0 end
redis.call('HSET', META, 'position', ARGV[3], 'running', ARGV[4], 'beat', text(2 ^ 53))
redis.call('HDEL', META, 'importing')
redis.call('DEL', key('importer'))
return 1
