-- Posts, and prints what was counted as one line of JSON.
wrk.method = "POST"

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nbench-json {"requests": %d, "duration_us": %d, "p50_us": %.1f, "p99_us": %.1f, "errors": '
      .. '{"connect": %d, "read": %d, "write": %d, "timeout": %d, "status over 399": %d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.timeout, e.status))
end
