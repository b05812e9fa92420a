-- One read. KEYS[1] PREFIX:store. ARGV: prefix, store id, what to read, its arguments.
local prefix = ARGV[1]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[2] then
  return redis.error_reply('EMPTIED this is not the store that it was')
end

local reads = {}

-- tag, stream, first, most bytes: the first seq that is readable, and whole chunks, one after the other.
-- The chunk in which `first` lies does not count, so that what is asked for is there.
function reads.entries(tag, stream, first, most)
  local log = prefix .. ':{' .. tag .. '}'
  local chunks = log .. ':' .. stream
  local floor = tonumber(redis.call('HGET', log, 'floor:' .. stream) or 1)
  first, most = math.max(tonumber(first), floor), tonumber(most)
  local from = string.format('%.0f-0', first)
  local found, bytes, count, seen = {}, 0, 4, 0
  local before = redis.call('XREVRANGE', chunks, from, '-', 'COUNT', 1)[1]
  if before then
    found[1], from, seen = before[2][2], '(' .. before[1], #before[2][2]
    count = math.ceil(most / (seen + 1))
  end
  while bytes < most do
    count = math.min(256, count)
    local page = redis.call('XRANGE', chunks, from, '+', 'COUNT', count)
    for _, chunk in ipairs(page) do
      found[#found + 1] = chunk[2][2]
      bytes = bytes + #chunk[2][2]
      if bytes >= most then
        break
      end
    end
    if #page < count then
      break
    end
    from = '(' .. page[#page][1]
    count = math.ceil((most - bytes) * #found / (seen + bytes + 1)) -- as large as those so far
  end
  return {string.format('%.0f', first), table.concat(found)}
end

function reads.value(key)
  return redis.call('HMGET', prefix .. ':value:' .. key, 'v', 'b')
end

-- least and greatest, as ZRANGEBYLEX takes them; how many
function reads.keys(least, greatest, count)
  return redis.call('ZRANGEBYLEX', prefix .. ':logs', least, greatest, 'LIMIT', 0, count)
end

-- how many, tenant (none = all): ids and packed letters, newest first
function reads.dead(count, tenant)
  local order = tenant and ':dead:of:' .. tenant or ':dead:all'
  local found = {}
  for _, id in ipairs(redis.call('ZREVRANGE', prefix .. order, 0, tonumber(count) - 1)) do
    found[#found + 1] = id
    found[#found + 1] = redis.call('HGET', prefix .. ':dead', id)
  end
  return found
end

return reads[ARGV[3]](unpack(ARGV, 4))
