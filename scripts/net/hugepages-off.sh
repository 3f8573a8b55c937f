#!/usr/bin/env bash
# Without hugepages, as on a machine that has none: the same balancer, slower.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

HUGEPAGES=false
test_begin 'hugepages = false'
blob 20
up two-arm
check 'the configuration says so' grep -qx 'hugepages = false' "$LB_CONFIG"
check 'no hugepage is in use by it' grep -q '^HugetlbPages:.* 0 kB$' "/proc/$LB_PID/status"
for vip in "$NAT_VIP4" "$NAT_VIP6" "$DSR_VIP4" "$DSR_VIP6"; do
  check "200 requests to $vip" http_all "$(url "$vip")" 200
  check "20 MiB from $vip arrive byte for byte" download "$(url "$vip")"
done
after_all
test_end
