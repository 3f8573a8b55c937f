#!/usr/bin/env bash
# TCP through nat: real clients, real servers, both families, both layouts.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# In the balancer's own words: the service counted connections and packets both ways.
service_counted() {
  local in out total
  total=$(stat_of "service('$1')['connections_total']")
  in=$(stat_of "service('$1')['packets_in']")
  out=$(stat_of "service('$1')['packets_out']")
  echo "$1: $total connections, $in packets in, $out packets out"
  ((total >= $2 && in > 0 && out > 0))
}

test_begin 'nat, TCP'
blob 100
for topology in two-arm one-arm; do
  scene "$topology"
  up "$topology"
  for vip in "$NAT_VIP4" "$NAT_VIP6"; do
    check "300 requests to $vip, a connection each, reach all backends" http_all "$(url "$vip")" 300
    check "100 MiB from $vip arrive byte for byte" download "$(url "$vip")"
  done
  check 'the IPv4 service counted them' service_counted nat4 301
  check 'the IPv6 service counted them' service_counted nat6 301
  after_all
  bed_down
done
test_end
