"""The atomic moves of a run, in Lua: each checks first and writes last, for scripts do not roll
back.

Knows no Python. runs describes the keys. Every script answers {kind, text} with kind ok, missing,
state or lease, takes the time from the store's clock, and bears being sent twice.
"""

# Prefix of all but CREATE: what the run is now, and how to say no.
_PRELUDE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local function text(seconds) return string.format('%.6f', seconds) end
local function ended(state)
  return state == 'CANDIDATE' or state == 'REJECTED' or state == 'FAILED' or state == 'CANCELLED'
end
local function held(state) return state == 'RUNNING' or state == 'GATING' end
local state, epoch, lease = unpack(redis.call('HMGET', KEYS[1], 'state', 'epoch', 'lease_until'))
epoch = epoch or '0'
lease = tonumber(lease or 0)
local function named() return 'run ' .. string.match(KEYS[1], '%d+$') end
local function no(why) return {'state', named() .. ' ' .. why} end
local function lost(given)
  if epoch == given and held(state) and lease > now then return nil end
  local why = 'epoch ' .. epoch .. ' owns it'
  if ended(state) then
    why = 'it has ended as ' .. state
  elseif epoch == given then
    why = 'its lease expired ' .. string.format('%.1f', now - lease) .. ' s ago'
  end
  return {'lease', 'epoch ' .. given .. ' does not hold ' .. named() .. ': ' .. why}
end
local still_held = 'is ' .. tostring(state) .. ' under epoch ' .. epoch .. ', its lease is not over'
if not state then return {'missing', ''} end
"""

# KEYS last, runs, live, exclusions; ARGV token, optimizer, requested_by, reason
CREATE = """
local live = redis.call('GET', KEYS[3])
if live then
  local state, token = unpack(redis.call('HMGET', 'amends:run:' .. live, 'state', 'token'))
  if token == ARGV[1] then return {'ok', live} end
  return {'state', 'run ' .. live .. ' is ' .. state .. ': wait for its end, or cancel it'}
end
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local id = tostring(redis.call('INCR', KEYS[1]))
redis.call('HSET', 'amends:run:' .. id, 'schema_version', 1, 'run_id', id, 'state', 'QUEUED',
  'optimizer', ARGV[2], 'requested_by', ARGV[3], 'reason', ARGV[4], 'token', ARGV[1],
  'created_at', now, 'hinted_at', now)
local without = redis.call('HVALS', KEYS[4])
table.sort(without)
if #without > 0 then
  redis.call('HSET', 'amends:run:' .. id, 'without', '[' .. table.concat(without, ',') .. ']')
end
redis.call('ZADD', KEYS[2], id, id)
redis.call('SET', KEYS[3], id)
return {'ok', id}
"""

# KEYS run, epochs; ARGV token, lease_s
CLAIM = (
    _PRELUDE
    + """
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then return {'ok', epoch} end
if ended(state) then return no('has ended as ' .. state) end
if held(state) and lease > now then return no(still_held) end
local new = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[1], 'state', 'RUNNING', 'epoch', new, 'token', ARGV[1],
  'lease_until', text(now + tonumber(ARGV[2])))
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSETNX', KEYS[1], 'started_at', text(now))
return {'ok', tostring(new)}
"""
)

# KEYS run; ARGV epoch, action, number, stage
UPDATE = (
    _PRELUDE
    + """
local gone = lost(ARGV[1])
if gone then return gone end
if ARGV[2] == 'lease' then
  redis.call('HSET', KEYS[1], 'lease_until', text(now + tonumber(ARGV[3])))
elseif ARGV[2] == 'report' then
  redis.call('HSET', KEYS[1], 'progress', ARGV[3], 'stage', ARGV[4])
elseif ARGV[2] == 'gate' then
  redis.call('HSET', KEYS[1], 'state', 'GATING')
end
return {'ok', ''}
"""
)

# KEYS run, live; ARGV epoch or '', state, version, verdict, error
FINISH = (
    _PRELUDE
    + """
if ended(state) then
  if state == ARGV[2] and (epoch == ARGV[1] or ARGV[1] == '') then return {'ok', ''} end
  return no('has ended as ' .. state .. ', it cannot end as ' .. ARGV[2])
end
if ARGV[1] ~= '' then
  local gone = lost(ARGV[1])
  if gone then return gone end
elseif held(state) and lease > now then
  return no(still_held)
end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'ended_at', text(now))
for i, name in ipairs({'version', 'verdict', 'error'}) do
  if ARGV[i + 2] ~= '' then redis.call('HSET', KEYS[1], name, ARGV[i + 2]) end
end
if ARGV[2] == 'CANDIDATE' or ARGV[2] == 'REJECTED' then
  redis.call('HSET', KEYS[1], 'progress', '1')
end
redis.call('DEL', KEYS[2])
return {'ok', ''}
"""
)

# KEYS run, epochs; ARGV epoch or '', 1 when the attempt counts
REQUEUE = (
    _PRELUDE
    + """
if state == 'QUEUED' and ARGV[1] == '' then return {'ok', ''} end
if not held(state) then return no('is ' .. state .. ', nothing to requeue') end
if ARGV[1] ~= '' then
  local gone = lost(ARGV[1])
  if gone then return gone end
elseif lease > now then
  return no(still_held)
end
redis.call('HSET', KEYS[1], 'state', 'QUEUED', 'epoch', redis.call('INCR', KEYS[2]),
  'lease_until', '0', 'hinted_at', text(now))
if ARGV[2] == '0' then redis.call('HINCRBY', KEYS[1], 'attempt', -1) end
return {'ok', ''}
"""
)

# KEYS run, live
REQUEST_CANCEL = (
    _PRELUDE
    + """
if ended(state) then
  if state == 'CANCELLED' then return {'ok', ''} end
  return no('has ended as ' .. state .. ', nothing to cancel')
end
redis.call('HSET', KEYS[1], 'cancel_requested', '1')
if state == 'QUEUED' then
  redis.call('HSET', KEYS[1], 'state', 'CANCELLED', 'ended_at', text(now))
  redis.call('DEL', KEYS[2])
end
return {'ok', ''}
"""
)

# KEYS run; ARGV seconds
TAKE_HINT = (
    _PRELUDE
    + """
local hinted = tonumber(redis.call('HGET', KEYS[1], 'hinted_at') or 0)
if state ~= 'QUEUED' or now - hinted < tonumber(ARGV[1]) then return {'ok', 'no'} end
redis.call('HSET', KEYS[1], 'hinted_at', text(now))
return {'ok', 'yes'}
"""
)
