#!/usr/bin/env bash
# Broken and hostile packets at both ports while clients are served: every one is counted, none is a crash.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# abuse NS IF MAC SEED: 20,000 frames, the same ones for the same seed.
abuse() { in_ns "$1" timeout 300 python3 "$NET_DIR/packet_abuse.py" "$2" "$3" "$4" 20000; }

dropped() { stat_of 'sum(s["drops"].values())'; }

drops_have_reasons() {
  local n
  n=$(stat_of 'sum(1 for v in s["drops"].values() if v)')
  stat_of 's["drops"]'
  echo "$n reasons in use"
  ((n >= 5))
}

# Most of what was sent arrived at the balancer at all (the socket's ring may be full now and then).
most_arrived() {
  local after
  after=$(stat_of 's["rx_packets"]')
  echo "received $((after - $1)) of $2"
  ((after - $1 > $2 / 2))
}

test_begin 'packets: truncated, oversize, inconsistent, unknown, to nobody'
for topology in two-arm one-arm; do
  scene "$topology"
  up "$topology"
  if [[ $topology == two-arm ]]; then outside=wan0 inside=wan; else outside=lan0 inside=lan; fi
  # Frames larger than the port's MTU have to reach it: the links carry more than the configuration says.
  for link in "client $outside" "lb $inside" 'lan to-lb' 'lan to-client' 'lan to-b1' 'lan br0' 'b1 eth0'; do
    # shellcheck disable=SC2086
    ns_ip ${link% *} link set "${link#* }" mtu 3000 2>/dev/null || true
  done
  traffic_start "$(url "$NAT_VIP4")"
  rx=$(stat_of 's["rx_packets"]')
  drops=$(dropped)
  check 'from the client side, 20,000 frames' abuse client "$outside" "$(mac_of lb "$inside")" 1
  check 'from the client side, 20,000 others' abuse client "$outside" "$(mac_of lb "$inside")" 2
  check 'from a backend, 20,000 frames' abuse b1 eth0 "$(mac_of lb lan)" 3
  traffic_stop
  check 'no request of the clients failed' traffic_check
  check 'the frames were received' most_arrived "$rx" 60000
  check "drops were counted ($drops before)" test "$(dropped)" -gt "$drops"
  check 'by reason' drops_have_reasons
  check 'both conservation equations hold' conservation
  check 'sluiced still runs' process_started "$LB_PID"
  check 'no panic in the log' no_panic
  check 'the IPv6 services serve as before' http_all "$(url "$NAT_VIP6")" 60
  check 'the dsr services serve as before' http_all "$(url "$DSR_VIP4")" 60
  bed_down
done
test_end
