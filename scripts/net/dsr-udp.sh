#!/usr/bin/env bash
# UDP through dsr: every size up to the MTU, many flows, the answer's source and checksum.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

test_begin 'dsr, UDP'
for topology in two-arm one-arm; do
  scene "$topology"
  up "$topology"
  udp_servers "$DSR_VIP4" "$DSR_VIP6"
  check 'IPv4: 1 to 1472 bytes come back from the VIP, 48 flows' udp "$DSR_VIP4" 5300 1472 48
  check 'IPv6: 1 to 1452 bytes come back from the VIP, 48 flows' udp "$DSR_VIP6" 5300 1452 48
  check 'IPv4: datagrams without a checksum come back too' udp "$DSR_VIP4" 5300 64 4 --no-checksum
  after_all
  bed_down
done
test_end
