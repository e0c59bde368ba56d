-- What wrk sends, and what it counts of the answers: failures, which an answer is that has not all its tokens, events
-- of server-sent streams, and when waves of them ended. A wave is as many answers as there are streams.
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds, nanoseconds; } benchmark_moment;
  int clock_gettime(int clock, benchmark_moment *moment);
]]

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

-- Every request has a number of its own in its prompt.
local body, number = os.getenv("BENCHMARK_BODY"), os.getenv("BENCHMARK_NUMBER")
local from, to = string.find(body, number, 1, true)
local before, after = string.sub(body, 1, from - 1), string.sub(body, to + 1)
local format = string.format("%%s%%0%dd%%s", #number)
local next_number = tonumber(os.getenv("BENCHMARK_FIRST_NUMBER"))

function request()
  next_number = next_number + 1
  return wrk.format(nil, nil, nil, string.format(format, before, next_number, after))
end

local streams = tonumber(os.getenv("BENCHMARK_STREAMS"))
local must_finish = os.getenv("BENCHMARK_FINISH") == "1"
local moment = ffi.new("benchmark_moment")

failures, events, answers = 0, 0, 0
failure = ""  -- the last one
first_wave, last_wave = 0, 0  -- seconds: when the first wave and the last whole one had come

local function now()
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

local function is_whole(body)
  return not must_finish or string.find(body, '"finish_reason": ?"length"')
end

function response(status, headers, body)
  if status ~= 200 or string.find(body, 'data: {"error"', 1, true) or not is_whole(body) then
    failures = failures + 1
    failure = string.format("status %d, body ends with %s", status, string.sub(body, -200))
  end
  local _, count = string.gsub(body, "data: {", "")
  events = events + count
  answers = answers + 1
  if answers % streams == 0 then
    last_wave = now()
    if answers == streams then
      first_wave = last_wave
    end
  end
end

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function done(summary, latency, requests)
  local thread, errors = threads[1], summary.errors  -- wrk runs with one thread
  local failed = thread:get("failures") + errors.connect + errors.read + errors.write + errors.timeout
  if failed > 0 then
    local sockets = "connect %d, read %d, write %d, timeout %d; "
    sockets = string.format(sockets, errors.connect, errors.read, errors.write, errors.timeout)
    io.write("failure " .. sockets .. string.gsub(thread:get("failure"), "%s+", " ") .. "\n")
  end
  io.write(string.format(
    'counted {"requests": %d, "seconds": %f, "failures": %d, "events": %d, "wave_seconds": %f}\n',
    thread:get("answers"), summary.duration / 1e6, failed, thread:get("events"),
    thread:get("last_wave") - thread:get("first_wave")))
end
