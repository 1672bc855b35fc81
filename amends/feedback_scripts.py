"""The atomic moves of feedback, in Lua: each checks first and writes last, for scripts do not
roll back.

Knows no Python. feedback_store describes the keys; scripts build the names of single records from
a prefix, which a store of one node allows. Each bears being sent twice.
"""

# KEYS record, pending, counts, idempotency key, targets...; ARGV feedback_id, kind, record,
# digest, seconds to keep the key
ADD = """
local keep = tonumber(ARGV[5])
if keep > 0 then
  local before = redis.call('GET', KEYS[4])
  if before then
    if before == ARGV[4] then return 'unchanged' else return 'conflict' end
  end
end
local digest, revision, state = unpack(redis.call('HMGET', KEYS[1], 'digest', 'revision', 'state'))
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
if keep > 0 then redis.call('SET', KEYS[4], ARGV[4], 'EX', keep) end
if digest == ARGV[4] then return 'unchanged' end
local new = tonumber(revision or 0) + 1
redis.call('HSET', KEYS[1], 'record:' .. new, ARGV[3], 'revision', new, 'digest', ARGV[4],
  'kind', ARGV[2], 'state', 'pending', 'arrived', now)
redis.call('HDEL', KEYS[1], 'run')
if state == 'pending' then redis.call('HDEL', KEYS[1], 'record:' .. revision) end
if state ~= 'pending' then
  redis.call('HINCRBY', KEYS[3], ARGV[2] .. ':pending', 1)
  if state then redis.call('HINCRBY', KEYS[3], ARGV[2] .. ':' .. state, -1) end
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
for target = 5, #KEYS do redis.call('SADD', KEYS[target], ARGV[1]) end
if revision then return 'replaced' else return 'created' end
"""

# KEYS pending, counts, claims, run; ARGV run_id, prefix
CLAIM = """
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then return 0 end
local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, id in ipairs(ids) do
  local record = ARGV[2] .. id
  local kind, revision = unpack(redis.call('HMGET', record, 'kind', 'revision'))
  redis.call('HSET', record, 'state', 'claimed', 'run', ARGV[1])
  redis.call('HSET', KEYS[4], id, revision)
  redis.call('SADD', ARGV[2] .. 'runs:' .. id, ARGV[1])
  redis.call('HINCRBY', KEYS[2], kind .. ':pending', -1)
  redis.call('HINCRBY', KEYS[2], kind .. ':claimed', 1)
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[3], ARGV[1], 'claimed')
return #ids
"""

# KEYS counts, claims, run, completed; ARGV run_id, prefix
COMPLETE = """
if redis.call('HGET', KEYS[2], ARGV[1]) ~= 'claimed' then return 0 end
local claimed = redis.call('HGETALL', KEYS[3])
for i = 1, #claimed, 2 do
  local id, used = claimed[i], claimed[i + 1]
  local record = ARGV[2] .. id
  local kind, revision, state, run = unpack(
    redis.call('HMGET', record, 'kind', 'revision', 'state', 'run'))
  redis.call('HSET', KEYS[4], id, used)
  if revision == used and state == 'claimed' and run == ARGV[1] then
    redis.call('HSET', record, 'state', 'completed')
    redis.call('HINCRBY', KEYS[1], kind .. ':claimed', -1)
    redis.call('HINCRBY', KEYS[1], kind .. ':completed', 1)
  end
end
redis.call('HSET', KEYS[2], ARGV[1], 'completed')
return 1
"""

# KEYS pending, counts, claims, run; ARGV run_id, prefix
RELEASE = """
if redis.call('HGET', KEYS[3], ARGV[1]) ~= 'claimed' then return 0 end
local claimed = redis.call('HGETALL', KEYS[4])
for i = 1, #claimed, 2 do
  local id, used = claimed[i], claimed[i + 1]
  local record = ARGV[2] .. id
  local kind, revision, state, run, arrived = unpack(
    redis.call('HMGET', record, 'kind', 'revision', 'state', 'run', 'arrived'))
  redis.call('SREM', ARGV[2] .. 'runs:' .. id, ARGV[1])
  if revision == used and state == 'claimed' and run == ARGV[1] then
    redis.call('HSET', record, 'state', 'pending')
    redis.call('HDEL', record, 'run')
    redis.call('ZADD', KEYS[1], arrived, id)
    redis.call('HINCRBY', KEYS[2], kind .. ':claimed', -1)
    redis.call('HINCRBY', KEYS[2], kind .. ':pending', 1)
  elseif revision ~= used then
    redis.call('HDEL', record, 'record:' .. used)
  end
end
redis.call('DEL', KEYS[4])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
"""
