#!/usr/bin/env bash
# Garbage, endless and concurrent requests at the control socket: each gets a 4xx or is hung up on, in bounded time;
# the daemon stays in control, and the traffic never notices.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

abuse() { timeout 300 python3 "$NET_DIR/control_abuse.py" "$LB_SOCKET" "$1"; }
memory_kb() { awk '/^VmRSS:/ { print $2 }' "/proc/$LB_PID/status"; }

# Members of the socket's group may read, not change: the socket tells them by their credentials.
as_nobody() { setpriv --reuid=65534 --regid=65534 --groups="$(stat -c %g "$LB_SOCKET")" "$RUN_DIR/sluicectl" --socket "$LB_SOCKET" "$@"; }
nobody_may_not_change() {
  local status=0
  as_nobody backend disable nat4 "$(backend4 b1):8080" || status=$?
  echo "exit status $status"
  [[ $status == 1 ]]
}

test_begin 'control socket: abuse while traffic flows'
up two-arm
cp "$SLUICECTL" "$RUN_DIR/sluicectl"
traffic_start "$(url "$NAT_VIP4")"
before=$(memory_kb)
for kind in garbage paths methods bodies endless-header endless-body huge-length slow concurrent; do
  check "$kind" abuse "$kind"
  check 'the daemon answers afterwards' ctl status
done
after=$(memory_kb)
check "memory did not grow with the requests ($before kB, then $after kB)" test "$after" -lt "$((before + 65536))"
check "another user in the socket's group may read" as_nobody status
check 'another user may not change' nobody_may_not_change
traffic_stop
check 'no request of the clients failed' traffic_check
after_all
test_end
