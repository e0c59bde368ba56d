-- What wrk sends, and what it counts of the answers: failures, and events of server-sent streams.
wrk.method = "POST"
wrk.body = os.getenv("BENCHMARK_BODY")
wrk.headers["Content-Type"] = "application/json"

failures = 0
events = 0

function response(status, headers, body)
  if status ~= 200 then
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
  local failed, seen = 0, 0
  for _, thread in ipairs(threads) do
    failed = failed + thread:get("failures")
    seen = seen + thread:get("events")
  end
  local errors = summary.errors
  failed = failed + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    'counted {"requests": %d, "seconds": %f, "failures": %d, "events": %d}\n',
    summary.requests, summary.duration / 1e6, failed, seen))
end
