-- wrk's summary as one line of JSON.
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'figures {"requests_per_s":%.1f,"p50_us":%d,"p99_us":%d,"errors":%d}\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
