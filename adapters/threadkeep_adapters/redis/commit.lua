-- One commit: every condition is tested before the first write, so that an error or a refusal has written nothing.
--
-- KEYS: thread (hash), log (sorted set), ids (hash), created and active (sorted sets), documents of the resource
--   (hash), and the last: on a single server the index of resources (sorted set), in a cluster the resource's
--   registration (string).
-- ARGV: 'thread' or 'resource', thread id, resource id, 'indexed' or a cluster's registration token ('' without one),
--   the token's longest life in microseconds, epoch, moment, drop_after ('' for none), if_epoch ('' for none, else '='
--   and the epoch), if_tail ('' for none, else '=', the position, ':' and the epoch), the numbers of records, puts and
--   resource puts; then for each record its id, digest, and what is stored of it behind its position; then for each put
--   its slot, if_version ('' for none), and what is stored of it behind its version.
-- Returns {'done', whether the token was used, epoch, position, positions, versions, resource versions}, {'tail', epoch,
--   position}, {'message', id}, {'version', slot, version}, or {'unregistered', the server's time in microseconds}.
local thread, log, ids, created_list, active_list, docs, registry = unpack(KEYS)
local of_thread, thread_id, resource_id, token, token_life = ARGV[1] == 'thread', ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local new_epoch, moment, drop_after, if_epoch, if_tail = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9], ARGV[10]
local records, puts, resource_puts = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local first_record = 14
local first_put = first_record + 3 * records
local first_resource_put = first_put + 3 * puts

-- Lua would write large numbers with an exponent.
local function text(number)
  return string.format('%.0f', number)
end

-- Lua's stack takes 8,000 values in one call; the step is even, since values may be pairs.
local STEP = 4000

local function write(command, key, values)
  for first = 1, #values, STEP do
    redis.call(command, key, unpack(values, first, math.min(first + STEP - 1, #values)))
  end
end

local function read(key, fields)
  if #fields <= STEP then
    return redis.call('HMGET', key, unpack(fields))
  end
  local found = {}
  for first = 1, #fields, STEP do
    local part = redis.call('HMGET', key, unpack(fields, first, math.min(first + STEP - 1, #fields)))
    for number = 1, #part do
      found[first + number - 1] = part[number]
    end
  end
  return found
end

local epoch, position, newest, active = '', 0, 0, nil
local is_new = false
if of_thread then
  local found = redis.call('HMGET', thread, 'epoch', 'position', 'newest', 'active')
  if found[1] then
    epoch, position, newest, active = found[1], tonumber(found[2]), tonumber(found[3]), found[4]
  else
    is_new = true
    -- These would refuse a key of another type when it is written, which is too late.
    redis.call('ZCARD', log)
    redis.call('ZCARD', created_list)
    redis.call('ZCARD', active_list)
  end
end

if if_epoch ~= '' and if_epoch ~= '=' .. epoch then
  return {'tail', epoch, position}
end

local positions = {}
local known = 0
if records > 0 then
  local asked = {}
  for number = 1, records do
    asked[number] = ARGV[first_record + 3 * (number - 1)]
  end
  local found = read(ids, asked)
  for number = 1, records do
    if found[number] then
      local colon = string.find(found[number], ':', 1, true)
      local place = tonumber(string.sub(found[number], 1, colon - 1))
      if not drop_after or place <= drop_after then
        if string.sub(found[number], colon + 1) ~= ARGV[first_record + 3 * (number - 1) + 1] then
          return {'message', asked[number]}
        end
        positions[number] = place
        known = known + 1
      end
    end
  end
end

local is_repetition = records > 0 and known == records and not drop_after
if if_tail ~= '' and not is_repetition and if_tail ~= '=' .. text(position) .. ':' .. epoch then
  return {'tail', epoch, position}
end

-- The versions that these puts give, or nothing and the first put whose condition does not hold.
local function next_versions(key, prefix, count, first)
  local versions = {}
  if count == 0 then
    return versions
  end
  local asked = {}
  for number = 1, count do
    asked[number] = prefix .. ARGV[first + 3 * (number - 1)]
  end
  local found = read(key, asked)
  for number = 1, count do
    local version = found[number] and tonumber(string.match(found[number], '^%d+')) or 0
    local wanted = ARGV[first + 3 * (number - 1) + 1]
    if wanted ~= '' and wanted ~= text(version) then
      return nil, {'version', ARGV[first + 3 * (number - 1)], version}
    end
    versions[number] = version + 1
  end
  return versions
end

local versions, resource_versions, refusal = {}, {}, nil
if puts > 0 then
  versions, refusal = next_versions(of_thread and thread or docs, of_thread and ':' or '', puts, first_put)
  if refusal then
    return refusal
  end
end
resource_versions, refusal = next_versions(docs, '', resource_puts, first_resource_put)
if refusal then
  return refusal
end

local needed = {'EXISTS', 'HSET', 'ZADD', 'ZREM'}
if drop_after then
  needed = {'EXISTS', 'HDEL', 'HSET', 'UNLINK', 'ZADD', 'ZRANGEBYSCORE', 'ZREM', 'ZREMRANGEBYSCORE', 'ZREVRANGE'}
end
-- The server would miss a permission at the command that needs it, after the first write. Redis 6 cannot be asked.
if redis.acl_check_cmd then
  for _, command in ipairs(needed) do
    if not redis.acl_check_cmd(command, KEYS[1]) then
      return redis.error_reply('NOPERM this user has no permission to run the command ' .. command)
    end
  end
end

local token_used = 0
if (is_new or not of_thread or resource_puts > 0) and redis.call('EXISTS', created_list, docs) == 0 then
  if token == 'indexed' then
    redis.call('ZADD', registry, 0, resource_id)
  else
    local holder = redis.call('GET', registry)
    -- A registration that is being taken back begins with a minus.
    if not holder or string.sub(holder, 1, 1) == '-' then
      local now = redis.call('TIME')
      local micros = now[1] * 1000000 + now[2]
      local since = tonumber(string.match(token, '^%d+'))
      if not since or micros - since > tonumber(token_life) then
        return {'unregistered', micros}
      end
      redis.call('SET', registry, token)
      token_used = 1
    end
  end
end

if drop_after and drop_after < position then
  if drop_after < 1 then
    redis.call('UNLINK', log, ids)
    position = 0
  else
    while true do
      local dropped = redis.call('ZRANGEBYSCORE', log, '(' .. text(drop_after), '+inf', 'LIMIT', 0, 200)
      if #dropped == 0 then
        break
      end
      local gone, last = {}, nil
      for number, member in ipairs(dropped) do
        local _, stop, place, size = string.find(member, '^(%d+):%-?%d+:(%d+):%d+:')
        gone[number] = string.sub(member, stop + 1, stop + size)
        last = place
      end
      redis.call('HDEL', ids, unpack(gone))
      redis.call('ZREMRANGEBYSCORE', log, '(' .. text(drop_after), last)
    end
    local newest_left = redis.call('ZREVRANGE', log, 0, 0)[1]
    position = newest_left and tonumber(string.match(newest_left, '^%d+')) or 0
  end
end

if known < records then
  local to_log, to_ids = {}, {}
  for number = 1, records do
    if not positions[number] then
      local first = first_record + 3 * (number - 1)
      newest = newest + 1
      positions[number] = newest
      local place = text(newest)
      to_log[#to_log + 1] = place
      to_log[#to_log + 1] = place .. ':' .. ARGV[first + 2]
      to_ids[#to_ids + 1] = ARGV[first]
      to_ids[#to_ids + 1] = place .. ':' .. ARGV[first + 1]
    end
  end
  write('ZADD', log, to_log)
  write('HSET', ids, to_ids)
  position = newest
end

if of_thread then
  local fields = {'position', text(position), 'newest', text(newest)}
  if is_new then
    epoch = new_epoch
    for _, field in ipairs({'epoch', epoch, 'created', moment, 'active', moment}) do
      fields[#fields + 1] = field
    end
    redis.call('ZADD', created_list, 0, moment .. thread_id)
    redis.call('ZADD', active_list, 0, moment .. thread_id)
  elseif moment > active then
    fields[#fields + 1] = 'active'
    fields[#fields + 1] = moment
    redis.call('ZREM', active_list, active .. thread_id)
    redis.call('ZADD', active_list, 0, moment .. thread_id)
  end
  for number = 1, puts do
    local first = first_put + 3 * (number - 1)
    fields[#fields + 1] = ':' .. ARGV[first]
    fields[#fields + 1] = text(versions[number]) .. ARGV[first + 2]
  end
  write('HSET', thread, fields)
end

local function put_in_resource(count, first, given)
  if count > 0 then
    local fields = {}
    for number = 1, count do
      fields[#fields + 1] = ARGV[first + 3 * (number - 1)]
      fields[#fields + 1] = text(given[number]) .. ARGV[first + 3 * (number - 1) + 2]
    end
    write('HSET', docs, fields)
  end
end
if not of_thread then
  put_in_resource(puts, first_put, versions)
end
put_in_resource(resource_puts, first_resource_put, resource_versions)

return {'done', token_used, epoch, position, positions, versions, resource_versions}
