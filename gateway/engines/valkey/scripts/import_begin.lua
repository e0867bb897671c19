-- Begin to write into a store from outside (`importer.py`). ARGV: shift, token of the importer, for how long it may write
-- without being heard of, in ms.
-- Returns 'empty'; 'interrupted': there is a part of an earlier import, to be deleted first; 'busy': another importer is
-- writing, or was a moment ago; or 'used': there is a store.
--
-- While the field `importing` is there, no node can use the store. `importer` is the lock of the importer.
if redis.call('EXISTS', key('importer')) == 1 then return 'busy' end
local was_begun = redis.call('HEXISTS', META, 'importing') == 1
if not was_begun and redis.call('EXISTS', META) == 1 then return 'used' end
redis.call('HSET', META, 'importing', ARGV[2])
redis.call('SET', key('importer'), ARGV[2], 'PX', ARGV[3])
return was_begun and 'interrupted' or 'empty'
