-- A resource with everything of it, in one step for whoever looks; the memory is freed in the background.
--
-- KEYS: created, active, documents of the resource, and the registry as for a commit.
-- ARGV: the beginning of the resource's keys, resource id, 'indexed' or '' (in a cluster).
-- Returns, in a cluster, the registration that is to be taken back ('' for none), and the time in microseconds.
local created_list, active_list, docs, registry = unpack(KEYS)
local base, resource_id, mode = ARGV[1], ARGV[2], ARGV[3]
local escapes = {['%'] = '%25', [':'] = '%3A', ['{'] = '%7B', ['}'] = '%7D'}

local needed = {'GET', 'SET', 'TIME', 'UNLINK', 'ZRANGE', 'ZREMRANGEBYRANK'}
if mode == 'indexed' then
  needed = {'UNLINK', 'ZRANGE', 'ZREM', 'ZREMRANGEBYRANK'}
end
-- The server would miss a permission at the command that needs it, after the first write. Redis 6 cannot be asked.
if redis.acl_check_cmd then
  for _, command in ipairs(needed) do
    if not redis.acl_check_cmd(command, KEYS[1]) then
      return redis.error_reply('NOPERM this user has no permission to run the command ' .. command)
    end
  end
end

while true do
  local members = redis.call('ZRANGE', created_list, 0, 999)
  if #members == 0 then
    break
  end
  local keys = {}
  for _, member in ipairs(members) do
    local name = string.gsub(string.sub(member, 20), '[%%:{}]', escapes)
    keys[#keys + 1] = base .. 'thread:' .. name
    keys[#keys + 1] = base .. 'log:' .. name
    keys[#keys + 1] = base .. 'ids:' .. name
  end
  redis.call('UNLINK', unpack(keys))
  redis.call('ZREMRANGEBYRANK', created_list, 0, #members - 1)
end
redis.call('UNLINK', active_list, docs)
if mode == 'indexed' then
  redis.call('ZREM', registry, resource_id)
  return {'', 0}
end
local token = redis.call('GET', registry) or ''
if token ~= '' then
  if string.sub(token, 1, 1) == '-' then
    token = string.sub(token, 2)
  else
    redis.call('SET', registry, '-' .. token)
  end
end
local now = redis.call('TIME')
return {token, now[1] * 1000000 + now[2]}
