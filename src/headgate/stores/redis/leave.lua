-- A worker goes. KEYS: the list of workers. ARGV: it, the stem of all names, 1 where it died, the time (-1: Redis's).
return release(KEYS[1], ARGV[2], ARGV[1], ARGV[3] == '1', time(ARGV[4]))
