-- Treat sessions that are live on a node as those of a node that is gone: their connections are not there. ARGV: shift,
-- node, then sessions ('sid username').
for at = 3, #ARGV do
  redis.call('SMOVE', key('live', ARGV[2]), key('live', LOST), ARGV[at])
end
redis.call('SADD', key('gone'), LOST)
return 1
