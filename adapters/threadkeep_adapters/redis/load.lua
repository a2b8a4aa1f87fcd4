-- A thread with a window of its records, and the documents of its resource.
--
-- KEYS: thread (hash), log (sorted set), ids (hash), documents of the resource (hash).
-- ARGV: kind of the anchor ('end', 'position' or 'id'), anchor, before, after.
-- Returns the documents of the resource as HGETALL gives them and, where there is the thread: its fields likewise,
-- the records before the anchor (newest first, but oldest first where it is the end), and those after it.
local thread, log, ids, docs = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local kind, anchor, before, after = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- A write that changes nothing, since no key expires. A replica, of which what it has may be old, refuses it.
local written = redis.pcall('PERSIST', KEYS[1])
if type(written) == 'table' and string.find(written.err, 'READONLY', 1, true) then
  return written
end
local common = redis.call('HGETALL', docs)
local fields = redis.call('HGETALL', thread)
if #fields == 0 then
  return {common}
end
if kind == 'end' then
  if before == '0' then
    return {common, fields, {}, {}}
  end
  return {common, fields, redis.call('ZRANGE', log, '-' .. before, -1), {}}
end
if kind == 'id' then
  local known = redis.call('HGET', ids, anchor)
  if not known then
    return {common, fields, {}, {}}
  end
  anchor = string.match(known, '^%d+')
end
return {
  common,
  fields,
  redis.call('ZREVRANGEBYSCORE', log, '(' .. anchor, '-inf', 'LIMIT', 0, before),
  redis.call('ZRANGEBYSCORE', log, anchor, '+inf', 'LIMIT', 0, after),
}
