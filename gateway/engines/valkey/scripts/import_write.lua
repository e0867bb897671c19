-- Run commands of an importer, if it still has the lock. ARGV: shift, token, as `import_begin`; then of each command the
-- number of its words, and these. Returns 1, or 0 where nothing was run.
if redis.call('GET', key('importer')) ~= ARGV[2] then return 0 end
redis.call('PEXPIRE', key('importer'), ARGV[3])
local at = 4
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return 1
