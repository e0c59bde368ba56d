-- What wrk sends, and what it counts of the answers: failures, and events of server-sent streams.
wrk.method = "POST"
wrk.body = os.getenv("BENCHMARK_BODY")
wrk.headers["Content-Type"] = "application/json"

failures = 0
events = 0
missing = 0

-- The first requests are shorter, each by more than the one before: answers that all began and ended together would come
-- in waves, and the last, cut off, would count for nothing.
local begun = 0
local streams = tonumber(os.getenv("BENCHMARK_STREAMS"))
local tokens = tonumber(os.getenv("BENCHMARK_TOKENS"))

function request()
  begun = begun + 1
  if begun > streams then
    return wrk.format()
  end
  local fewer = math.floor((begun - 1) * tokens / streams)
  missing = missing + fewer
  local wanted = string.format('"max_tokens": %d', tokens - fewer)
  local body = string.gsub(wrk.body, '"max_tokens": %d+', wanted)
  return wrk.format(nil, nil, nil, body)
end

function response(status, headers, body)
  if status ~= 200 or string.find(body, 'data: {"error"', 1, true) then
    failures = failures + 1
  end
  local _, count = string.gsub(body, "data: {", "")
  events = events + count
end

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function done(summary, latency, requests)
  local failed, seen, fewer = 0, 0, 0
  for _, thread in ipairs(threads) do
    failed = failed + thread:get("failures")
    seen = seen + thread:get("events")
    fewer = fewer + thread:get("missing")
  end
  local errors = summary.errors
  failed = failed + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    'counted {"requests": %d, "seconds": %f, "failures": %d, "events": %d, "missing": %d}\n',
    summary.requests, summary.duration / 1e6, failed, seen, fewer))
end
