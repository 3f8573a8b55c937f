#!/usr/bin/env bash
# UDP through nat: every size up to the MTU, many flows, the answer's source and checksum.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

test_begin 'nat, UDP'
for topology in two-arm one-arm; do
  scene "$topology"
  up "$topology"
  udp_servers 0.0.0.0 ::
  check 'IPv4: 1 to 1472 bytes come back from the VIP, 48 flows' udp "$NAT_VIP4" 53 1472 48
  check 'IPv6: 1 to 1452 bytes come back from the VIP, 48 flows' udp "$NAT_VIP6" 53 1452 48
  check 'IPv4: datagrams without a checksum come back too' udp "$NAT_VIP4" 53 64 4 --no-checksum
  after_all
  bed_down
done
test_end
