-- One worker's exchange over any number of meters, in one atomic step: the rule of `money/shares.py`.
-- KEYS: the list of workers, what this one has in hand, then the pool of each ask.
-- ARGV: this worker, the stem of all names, 1 where it was here before, after how long without a word a worker
--   is dead, the time (-1: Redis's); then of each ask its name, limit, window, spent, keep, want and known: what
--   was used of a pool that Redis may have lost since (-1: this worker was told of it after that).
-- Returns how many workers there are, then of each ask what was granted, what is free, what others have in
-- hand, how long to wait, and what is left.
-- {-1}: this worker was taken for dead, or everything was flushed; nothing was done.
local PLENTY, AHEAD, YOUNG = 8, 32, 10000000
local workers, hand, me, stem = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local now = time(ARGV[5])

local here = redis.call('ZSCORE', workers, me)
redis.call('ZADD', workers, text(now), me)
redis.call('PEXPIRE', workers, DAY_MS)
if ARGV[3] == '1' and not here then
  redis.call('DEL', hand)
  return {-1}
end
local silent = redis.call('ZRANGEBYSCORE', workers, '-inf', text(now - ARGV[4]), 'LIMIT', 0, 1)[1]
if silent and silent ~= me then
  release(workers, stem, silent, true, now)
end

local count = redis.call('ZCARD', workers)
local answer = {count}
for i = 3, #KEYS do
  local pool, a = KEYS[i], 5 + (i - 3) * 7
  local name, limit, span = ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local spent, keep, want = tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]), tonumber(ARGV[a + 6])
  local known = math.min(tonumber(ARGV[a + 7]), limit * MICRO)
  local used, at, held = math.max(0, known), now, 0
  local row = redis.call('HMGET', pool, 'used', 'at', 'limit', 'span', 'held', 'seed', 'born')
  if row[1] then
    used, at, held = tonumber(row[1]), tonumber(row[2]), tonumber(row[5])
    if span > 0 then
      used, at = refilled(used, at, tonumber(row[3]), span, now)
    end
    if known > tonumber(row[6]) and now - row[7] < YOUNG then -- who knows most is right
      used = used + known - row[6]
      redis.call('HSET', pool, 'seed', text(known))
    end
  else
    redis.call('HSET', pool, 'seed', text(used), 'born', text(now))
  end
  used = span > 0 and math.max(0, used + spent * MICRO) or 0
  if row[1] and tonumber(row[3]) ~= limit then -- what is used stays used, as far as the new limit goes
    used = math.min(used, limit * MICRO)
  end
  local mine = tonumber(redis.call('HGET', hand, name) or 0)
  local others = math.max(0, held - mine)
  local left = limit - math.ceil(used / MICRO)
  local free, wait, granted = left - others - keep, 0, want
  if want > free then
    wait = span > 0 and math.ceil((want - free) * span / limit) or 1
    granted = math.max(0, free)
  elseif want > 0 and free >= PLENTY * want * count then
    granted = want + math.min(math.floor(free / (4 * count)), AHEAD * want)
  end
  local all = keep + granted
  if all > 0 then
    redis.call('HSET', hand, name, text(all))
  elseif mine > 0 then
    redis.call('HDEL', hand, name)
  end
  redis.call(
    'HSET', pool, 'used', text(used), 'at', text(at), 'limit', text(limit), 'span', text(span),
    'held', text(others + all)
  )
  redis.call('PEXPIRE', pool, span > 0 and math.ceil(span / 500) or DAY_MS) -- two windows
  for _, number in ipairs({granted, wait > 0 and 0 or free - granted, others, wait, left}) do
    answer[#answer + 1] = number
  end
end
redis.call('PEXPIRE', hand, DAY_MS)
return answer
