#!/usr/bin/env bash
# The balancer restarts, and connections go on: with Maglev, a client in mid-connection finds its backend again. (With
# nat it has to speak first, which the client of a download may not; so this is about dsr.)
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# slow_download URL: about four seconds long, so that it spans a restart.
slow_download() {
  local got
  got=$(in_ns client curl -sS --fail --max-time 300 --limit-rate 8M "$1files/blob" | sha256sum)
  [[ $got == "$BLOB_SHA256" ]] || { echo "sha256 differs: $got"; return 1; }
}

# restart HOW: stops sluiced by HOW (daemon_stop, daemon_kill) and starts it again.
restart() {
  "$1" "$LB_PID"
  lb_start "$LB_CONFIG"
}

# across HOW VIP...: downloads through every VIP at once, with a restart in the middle.
across() {
  local how=$1 vip failed=0 pid
  local -a pids=()
  shift
  for vip in "$@"; do
    slow_download "$(url "$vip")" &
    pids+=($!)
  done
  sleep 1
  restart "$how" || failed=1
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  return "$failed"
}

test_begin 'restart: established connections go on'
blob 32
for layout in two-arm one-arm; do
  scene "$layout"
  up "$layout"
  # Not inside check: the new process has to be known here.
  for how in daemon_stop daemon_kill; do
    status=0
    across "$how" "$DSR_VIP4" "$DSR_VIP6" >"$RUN_DIR/across.out" 2>&1 || status=$?
    check "downloads survive ${how/daemon_/a }" test "$status" = 0
    [[ $status == 0 ]] || cat "$RUN_DIR/across.out"
  done
  check 'new connections are served' http_all "$(url "$NAT_VIP4")" 60
  after_all
  bed_down
done
test_end
