-- What the scripts have in common. All times are microseconds; what is used is kept in millionths of a unit.
-- A pool has `used` and `at`, when that was so, `limit`, `span`, its window (0: calls at once), and `held`, what
-- is in hands. A worker's hand has a field for each pool that it holds something of.
local MICRO, STEPPED, DAY_MS = 1000000, 1000000, 86400000

-- Redis's own time, the same for all, where none is given.
local function time(given)
  if tonumber(given) >= 0 then
    return tonumber(given)
  end
  local now = redis.call('TIME')
  return now[1] * MICRO + now[2]
end

local function text(number)
  return string.format('%.0f', number)
end

-- What is used of a pool now, and since when. A clock that went back is followed, and gives nothing.
local function refilled(used, at, limit, span, now)
  if now > at then
    return math.max(0, used - math.floor((now - at) * limit / (span / MICRO))), now
  end
  if at - now > STEPPED then
    return used, now
  end
  return used, at
end

-- Take a worker off the list. What it has in hand is free again; of one that died it counts as spent.
local function release(workers, stem, worker, died, now)
  local hand = stem .. 'hand:' .. worker
  local held = redis.call('HGETALL', hand)
  for i = 1, #held, 2 do
    local pool, units = stem .. 'pool:' .. held[i], tonumber(held[i + 1])
    local row = redis.call('HMGET', pool, 'used', 'at', 'limit', 'span', 'held')
    if row[1] then
      local used, at, span = tonumber(row[1]), tonumber(row[2]), tonumber(row[4])
      if died and span > 0 then
        used, at = refilled(used, at, tonumber(row[3]), span, now)
        used = used + units * MICRO
      end
      local rest = math.max(0, tonumber(row[5]) - units)
      redis.call('HSET', pool, 'used', text(used), 'at', text(at), 'held', text(rest))
    end
  end
  redis.call('DEL', hand)
  return redis.call('ZREM', workers, worker)
end
