-- Who we speak to: makes the store's record, or finds out whether this server may have lost writes since
-- it was last seen. KEYS[1] PREFIX:store. ARGV: prefix, writer, its last answered batch (0 = none), the
-- server's run id, whether it keeps every write it answered (1 or 0), a new id, a new era.
-- Answers {id, era, verdict}; verdict: KEPT, NEW, UNPROVED (a restart that may have lost the end of
-- logs) or LOST (an answered batch is not there). An era is a time in which nothing was lost: logs of an
-- older one get a new epoch at their next claim, and older claims are over.
local store = KEYS[1]
local held = redis.call('HMGET', store, 'id', 'era', 'run', 'kept', 'format')
local id, era, verdict = held[1], held[2], 'KEPT'
if not id then
  id, era, verdict = ARGV[6], ARGV[7], 'NEW'
elseif held[5] ~= '1' then
  return redis.error_reply('FORMAT ' .. tostring(held[5]))
else
  if held[3] ~= ARGV[4] and not (held[4] == '1' and ARGV[5] == '1') then
    era, verdict = ARGV[7], 'UNPROVED'
  end
  local answered = tonumber(ARGV[3])
  if answered > 0 then
    local last = redis.call('GET', ARGV[1] .. ':writer:' .. ARGV[2])
    if not last or tonumber(string.match(last, '^%d+')) < answered then
      era, verdict = ARGV[7], 'LOST'
    end
  end
end
redis.call('HSET', store, 'id', id, 'era', era, 'run', ARGV[4], 'kept', ARGV[5], 'format', '1')
return {id, era, verdict}
