-- A page of a resource's threads.
--
-- KEYS: created or active (sorted set). ARGV: 'created' or 'active', the place after which the page begins as a member
--   of the set ('' for the beginning), limit, the beginning of the resource's keys, then the fields of the slots.
-- Returns for each thread: its id, epoch, position, created, active, and the fields asked for.
local escapes = {['%'] = '%25', [':'] = '%3A', ['{'] = '%7B', ['}'] = '%7D'}
local order, place, limit, base = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- A write that changes nothing, since no key expires. A replica, of which what it has may be old, refuses it.
local written = redis.pcall('PERSIST', KEYS[1])
if type(written) == 'table' and string.find(written.err, 'READONLY', 1, true) then
  return written
end

local members
if order == 'created' then
  local from = place == '' and '-' or '(' .. place
  members = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, limit)
else
  local from = place == '' and '+' or '(' .. place
  members = redis.call('ZREVRANGEBYLEX', KEYS[1], from, '-', 'LIMIT', 0, limit)
end
local page = {}
for number, member in ipairs(members) do
  local thread_id = string.sub(member, 20)
  local name = string.gsub(thread_id, '[%%:{}]', escapes)
  local row = redis.call('HMGET', base .. 'thread:' .. name, 'epoch', 'position', 'created', 'active', unpack(ARGV, 5))
  table.insert(row, 1, thread_id)
  page[number] = row
end
return page
