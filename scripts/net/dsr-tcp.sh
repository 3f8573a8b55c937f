#!/usr/bin/env bash
# TCP through dsr (layer 2): requests through the balancer, answers straight from the backend.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# The balancer must not see the answers: what it received in all is far less than the download was long.
answers_went_past() {
  local before=$1 after
  after=$(lb_received_bytes)
  echo "the balancer's interfaces received $((after - before)) bytes during a download of 100 MiB"
  ((after - before < 50 * 1024 * 1024))
}

lb_received_bytes() {
  # shellcheck disable=SC2016
  in_ns lb sh -c 'cat /sys/class/net/*an/statistics/rx_bytes' | awk '{ n += $1 } END { print n }'
}

# A VIP on the LAN itself, which the client finds by ARP or neighbour discovery: the backends hold it too, but only the
# balancer may answer for it.
onlink_vip_is_the_balancers() {
  local mac vip
  for vip in "$LAN_VIP4" "$LAN_VIP6"; do
    http_all "$(url "$vip")" 100 || return
    mac=$(ns_ip client neighbor show "$vip" | grep -o 'lladdr [0-9a-f:]*')
    echo "$vip: $mac, want $(mac_of lb lan)"
    [[ $mac == "lladdr $(mac_of lb lan)" ]] || return 1
  done
}

test_begin 'dsr, TCP'
blob 100
for topology in two-arm one-arm; do
  scene "$topology"
  bed_up "$topology"
  conf_all "$topology" >"$LB_CONFIG"
  if [[ $topology == one-arm ]]; then
    for b in "${BACKENDS[@]}"; do address "$b" lo "$LAN_VIP4/32" "$LAN_VIP6/128"; done
    # shellcheck disable=SC2046
    {
      conf_service lan4 "$LAN_VIP4" 80 tcp dsr round-robin $(conf_backends 4 80)
      conf_service lan6 "$LAN_VIP6" 80 tcp dsr round-robin $(conf_backends 6 80)
    } >>"$LB_CONFIG"
  fi
  lb_start "$LB_CONFIG"
  for vip in "$DSR_VIP4" "$DSR_VIP6"; do
    check "300 requests to $vip, a connection each, reach all backends" http_all "$(url "$vip")" 300
    before=$(lb_received_bytes)
    check "100 MiB from $vip arrive byte for byte" download "$(url "$vip")"
    check "the answers did not pass the balancer" answers_went_past "$before"
  done
  if [[ $topology == one-arm ]]; then
    check 'a VIP on the LAN is answered for by the balancer alone' onlink_vip_is_the_balancers
  fi
  after_all
  bed_down
done
test_end
