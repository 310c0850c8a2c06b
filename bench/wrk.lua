-- Sends requests, and prints what was counted as one line of JSON. Arguments: nothing or a body of
-- JSON, to POST; "get"; "labels" and perhaps a body, whose 7777, or the address's, is 0 to 9 in turn; "seeded", to POST with a seed of its own each; "raw" and a file, to send exactly
-- its bytes, but for ########, which is another number each time.
wrk.method = "POST"

function init(args)
  if args[1] == "seeded" then
    math.randomseed(os.time())
    local seed = math.random(2 ^ 30) * 2 ^ 20 -- room for a million requests after it
    local path = wrk.path .. "&seed="
    request = function()
      seed = seed + 1
      return wrk.format(nil, path .. string.format("%d", seed))
    end
  elseif args[1] == "get" then
    wrk.method = "GET"
  elseif args[1] == "labels" then
    local label, path, body = 0, wrk.path, args[2]
    if body then wrk.headers["Content-Type"] = "application/json" end
    request = function()
      label = (label + 1) % 10
      return wrk.format(nil, (path:gsub("7777", label)), nil, body and (body:gsub("7777", label)))
    end
  elseif args[1] == "raw" then
    local file = assert(io.open(args[2], "rb"))
    local bytes = file:read("*a")
    file:close()
    local number = math.random(10 ^ 7)
    request = function()
      number = number + 1
      return (bytes:gsub("########", string.format("%08d", number), 2))
    end
  elseif args[1] then
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = args[1]
  end
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nbench-json {"requests": %d, "duration_us": %d, "p50_us": %.1f, "p99_us": %.1f, "errors": '
      .. '{"connect": %d, "read": %d, "write": %d, "timeout": %d, "status over 399": %d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.timeout, e.status))
end
