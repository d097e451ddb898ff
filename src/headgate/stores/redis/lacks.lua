-- What some meters lack, hands too. KEYS: pools. ARGV: the time (-1: Redis's).
-- Returns a text for each: a number in millionths, or '' where there is nothing to keep.
local now = time(ARGV[1])
local answer = {}
for i, pool in ipairs(KEYS) do
  local row = redis.call('HMGET', pool, 'used', 'at', 'limit', 'span', 'held')
  answer[i] = ''
  if row[1] and tonumber(row[4]) > 0 then
    local used = refilled(tonumber(row[1]), tonumber(row[2]), tonumber(row[3]), tonumber(row[4]), now)
    answer[i] = text(used + tonumber(row[5]) * MICRO)
  end
end
return answer
