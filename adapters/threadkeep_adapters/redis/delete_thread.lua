-- A thread with everything of it.
--
-- KEYS: thread, log, ids, created, active, documents of the resource, and the registry as for a commit.
-- ARGV: thread id, resource id, 'indexed' or '' (in a cluster).
-- Returns, where that was the last of a resource in a cluster, its registration, which is to be taken back; else ''.
local thread, log, ids, created_list, active_list, docs, registry = unpack(KEYS)
local thread_id, resource_id, mode = ARGV[1], ARGV[2], ARGV[3]

local needed = {'EXISTS', 'GET', 'SET', 'UNLINK', 'ZREM'}
if mode == 'indexed' then
  needed = {'EXISTS', 'UNLINK', 'ZREM'}
end
-- The server would miss a permission at the command that needs it, after the first write. Redis 6 cannot be asked.
if redis.acl_check_cmd then
  for _, command in ipairs(needed) do
    if not redis.acl_check_cmd(command, KEYS[1]) then
      return redis.error_reply('NOPERM this user has no permission to run the command ' .. command)
    end
  end
end

local found = redis.call('HMGET', thread, 'created', 'active')
if found[1] then
  redis.call('ZREM', created_list, found[1] .. thread_id)
  redis.call('ZREM', active_list, found[2] .. thread_id)
  redis.call('UNLINK', thread, log, ids)
end
if redis.call('EXISTS', created_list, docs) > 0 then
  return ''
end
if mode == 'indexed' then
  redis.call('ZREM', registry, resource_id)
  return ''
end
local token = redis.call('GET', registry)
if not token then
  return ''
end
if string.sub(token, 1, 1) ~= '-' then
  redis.call('SET', registry, '-' .. token)
  return token
end
return string.sub(token, 2)
