-- Run commands of an importer, if it still has the lock. ARGV: shift, token, as `import_begin`, commands: a JSON array of
-- arrays of strings. Returns 1, or 0 where nothing was run.
if redis.call('GET', key('importer')) ~= ARGV[2] then return 0 end
redis.call('PEXPIRE', key('importer'), ARGV[3])
for _, command in ipairs(cjson.decode(ARGV[4])) do redis.call(unpack(command)) end
return 1
