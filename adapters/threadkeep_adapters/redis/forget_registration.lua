-- Take back the registration of a resource that was emptied, unless somebody has registered it anew.
--
-- KEYS: registration. ARGV: the token that was taken out of the index.
if redis.call('GET', KEYS[1]) == '-' .. ARGV[1] then
  redis.call('UNLINK', KEYS[1])
end
return 0
