-- One batch of writes of one writer. Nothing else runs in between, and the answer is kept: a writer that
-- lost it sends the same number again and hears the same answer, instead of writing twice. A batch that
-- comes late, after its writer went on, does nothing.
-- KEYS[1] PREFIX:store. ARGV: prefix, store id, writer, number, seconds to keep the answer, operations.
--
--   PREFIX:store            id, era, version (last one given), letter (last id given), dead_bytes, ...
--   PREFIX:writer:W         number of W's last batch, ':', its answer
--   PREFIX:logs             sorted set: keys of all logs
--   PREFIX:{LOG}            generation, epoch, era; per stream N: seq:N, position:N (its head), floor:N
--   PREFIX:{LOG}:N          stream of chunks; the id of a chunk is the seq of its first entry
--   PREFIX:value:KEY        v (version), b (bytes)
--   PREFIX:dead             dead letters by id; PREFIX:dead:all and PREFIX:dead:of:TENANT order them
local store, prefix = KEYS[1], ARGV[1]
local known = redis.call('HMGET', store, 'id', 'era')
if known[1] ~= ARGV[2] then
  return redis.error_reply('EMPTIED this is not the store that it was')
end
local era = known[2]
local number, answers = tonumber(ARGV[4]), prefix .. ':writer:' .. ARGV[3]
local last = redis.call('GET', answers)
if last then
  local colon = string.find(last, ':', 1, true)
  local at = tonumber(string.sub(last, 1, colon - 1))
  if at == number then
    return string.sub(last, colon + 1)
  elseif at > number then
    return redis.error_reply('LATE batch ' .. ARGV[4] .. ' comes after ' .. at)
  end
end

local function digits(whole) -- tostring would round from 1e14 on
  return string.format('%.0f', whole)
end

-- Returns the key of a held log, or nil and what to answer.
local function held(tag, generation, epoch)
  local log = prefix .. ':{' .. tag .. '}'
  local is = redis.call('HMGET', log, 'generation', 'epoch', 'era')
  if is[1] ~= generation or is[2] ~= epoch or is[3] ~= era then
    return nil, {'FENCED', tonumber(is[1] or 0)}
  end
  return log
end

local function fields_of(log)
  local flat, fields = redis.call('HGETALL', log), {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

-- Whether something of a log is missing, as far as the server can tell; it then begins behind its head.
local function lacking(log, fields)
  local missing = false
  for field, seq in pairs(fields) do
    local stream = string.match(field, '^seq:(.*)')
    if stream and tonumber(fields['floor:' .. stream] or 1) <= tonumber(seq) then
      if redis.call('EXISTS', log .. ':' .. stream) == 0 then
        local floor = digits(tonumber(seq) + 1)
        redis.call('HSET', log, 'floor:' .. stream, floor)
        fields['floor:' .. stream] = floor
        missing = true
      end
    end
  end
  return missing
end

local writes = {}

function writes.claim(op) -- tag, key, a new epoch
  local log = prefix .. ':{' .. op[2] .. '}'
  local fields = fields_of(log)
  local generation, epoch = tonumber(fields.generation or 0) + 1, fields.epoch
  if not epoch then
    redis.call('ZADD', prefix .. ':logs', 0, op[3])
    epoch = op[4]
  elseif lacking(log, fields) or fields.era ~= era then
    epoch = op[4]
  end
  redis.call('HSET', log, 'generation', digits(generation), 'epoch', epoch, 'era', era)
  local answer = {'OK', generation, epoch}
  for field, seq in pairs(fields) do
    local stream = string.match(field, '^seq:(.*)')
    if stream then
      answer[#answer + 1] = tonumber(stream)
      answer[#answer + 1] = tonumber(seq)
      answer[#answer + 1] = tonumber(fields['position:' .. stream])
      answer[#answer + 1] = tonumber(fields['floor:' .. stream] or 1)
    end
  end
  return answer
end

function writes.append(op) -- tag, generation, epoch, {stream, first, its position, last, its position, chunk}...
  local log, refused = held(op[2], op[3], op[4])
  if not log then
    return refused
  end
  local chunks, heads = op[5], {}
  for i = 1, #chunks, 6 do
    local stream = chunks[i]
    local head = heads[stream]
    if not head then
      local at = redis.call('HMGET', log, 'seq:' .. stream, 'position:' .. stream)
      head = {tonumber(at[1] or 0), tonumber(at[2] or 0)}
      heads[stream] = head
    end
    if chunks[i + 1] ~= head[1] + 1 or chunks[i + 2] < head[2] then
      return {'HOLE', stream, head[1], head[2], chunks[i + 1], chunks[i + 2]}
    end
    head[1], head[2] = chunks[i + 3], chunks[i + 4]
  end
  for i = 1, #chunks, 6 do
    redis.call('XADD', log .. ':' .. chunks[i], digits(chunks[i + 1]) .. '-0', 'c', chunks[i + 5])
  end
  for stream, head in pairs(heads) do
    redis.call('HSET', log, 'seq:' .. stream, digits(head[1]), 'position:' .. stream, digits(head[2]))
  end
  return 'OK'
end

function writes.trim(op) -- tag, generation, epoch, stream, below
  local log, refused = held(op[2], op[3], op[4])
  if not log then
    return refused
  end
  local at = redis.call('HMGET', log, 'seq:' .. op[5], 'floor:' .. op[5])
  local head, floor = tonumber(at[1] or 0), tonumber(at[2] or 1)
  local below = math.min(op[6], head + 1)
  if below <= floor then
    return 'OK'
  end
  local chunks, least = log .. ':' .. op[5], digits(below) .. '-0'
  if below <= head then -- the chunk that `below` lies in stays whole
    local found = redis.call('XREVRANGE', chunks, least, '-', 'COUNT', 1)[1]
    least = found and found[1] or least
  end
  redis.call('XTRIM', chunks, 'MINID', least)
  redis.call('HSET', log, 'floor:' .. op[5], digits(below))
  return 'OK'
end

function writes.put(op) -- key, bytes, expected version (-1 = any), ttl in ms (0 = none)
  local key = prefix .. ':value:' .. op[2]
  if op[4] >= 0 and tonumber(redis.call('HGET', key, 'v') or 0) ~= op[4] then
    return 0
  end
  local time = redis.call('TIME') -- so that a version is not given twice even if the store is lost
  local version = tonumber(redis.call('HGET', store, 'version') or 0) + 1
  version = math.max(version, tonumber(time[1]) * 1000000 + tonumber(time[2]))
  redis.call('HSET', key, 'v', digits(version), 'b', op[3])
  redis.call('HSET', store, 'version', digits(version))
  if op[5] > 0 then
    redis.call('PEXPIRE', key, digits(op[5]))
  else
    redis.call('PERSIST', key)
  end
  return version
end

function writes.delete(op) -- key
  redis.call('DEL', prefix .. ':value:' .. op[2])
  return 'OK'
end

-- Removes a dead letter and returns it packed, or nil.
local function unbury(id)
  local packed = redis.call('HGET', prefix .. ':dead', id)
  if not packed then
    return nil
  end
  local letter = cmsgpack.unpack(packed)
  redis.call('HDEL', prefix .. ':dead', id)
  redis.call('ZREM', prefix .. ':dead:all', id)
  redis.call('ZREM', prefix .. ':dead:of:' .. letter[1], id)
  redis.call('HINCRBY', store, 'dead_bytes', -#letter[6])
  return packed
end

function writes.bury(op) -- tenant, bytes of its event, the packed letter, most letters, most bytes
  local id = redis.call('HINCRBY', store, 'letter', 1)
  redis.call('HSET', prefix .. ':dead', id, op[4])
  redis.call('ZADD', prefix .. ':dead:all', id, id)
  redis.call('ZADD', prefix .. ':dead:of:' .. op[2], id, id)
  local bytes = redis.call('HINCRBY', store, 'dead_bytes', op[3])
  local count = redis.call('ZCARD', prefix .. ':dead:all')
  while count > op[5] or (bytes > op[6] and count > 1) do
    local oldest = redis.call('ZRANGE', prefix .. ':dead:all', 0, 0)[1]
    unbury(oldest)
    count = count - 1
    bytes = tonumber(redis.call('HGET', store, 'dead_bytes'))
  end
  return id
end

function writes.exhume(op) -- ids
  local found = {}
  for _, id in ipairs(op[2]) do
    local packed = unbury(digits(id))
    if packed then
      found[#found + 1] = id
      found[#found + 1] = packed
    end
  end
  return found
end

-- An operation that fails (memory is full) has written nothing, and its neighbours go on.
local out = {}
for i, op in ipairs(cmsgpack.unpack(ARGV[6])) do
  local well, answer = pcall(writes[op[1]], op)
  if not well then
    answer = {'FAILED', type(answer) == 'table' and answer.err or tostring(answer)}
  end
  out[i] = answer
end
local answer = cmsgpack.pack(out)
local kept = redis.pcall('SET', answers, ARGV[4] .. ':' .. answer, 'EX', ARGV[5])
if kept.err then
  return cmsgpack.pack({'UNKEPT', out})
end
return answer
