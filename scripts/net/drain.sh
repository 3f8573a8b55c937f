#!/usr/bin/env bash
# Drains to their end: connections that outlive the deadline are reset on both sides, idle ones too; and every backend is
# replaced in turn under load without a failed request.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# conf_idle: as usual, and services for connections that are silent.
conf_idle() {
  conf_all two-arm
  local f vip_nat vip_dsr
  for f in 4 6; do
    if [[ $f == 4 ]]; then vip_nat=$NAT_VIP4 vip_dsr=$DSR_VIP4; else vip_nat=$NAT_VIP6 vip_dsr=$DSR_VIP6; fi
    # shellcheck disable=SC2046  # one word per backend
    {
      conf_service "idle-nat$f" "$vip_nat" 90 tcp nat round-robin $(conf_backends $f 9090)
      conf_service "idle-full$f" "$vip_nat" 91 tcp full-nat round-robin $(conf_backends $f 9090)
      conf_service "idle-dsr$f" "$vip_dsr" 90 tcp dsr round-robin $(conf_backends $f 90)
    }
  done
}

idle_serve() {
  local b
  for b in "${BACKENDS[@]}"; do
    daemon_start "idle-$b" ip netns exec "$(ns "$b")" python3 "$NET_DIR/idle.py" serve "$b" "$RUN_DIR/idle.$b" 9090 90
    wait_until 30 grep -q ready "$RUN_DIR/log/idle-$b.log" || die "the idle server did not start on $b"
  done
}

# idle_call VIP PORT: 30 silent connections from the client.
idle_call() {
  local b
  for b in "${BACKENDS[@]}"; do : >"$RUN_DIR/idle.$b"; done
  # The word of an earlier one must not be taken for this one's.
  rm -f "$RUN_DIR/log/idle-client.log"
  daemon_start idle-client ip netns exec "$(ns client)" python3 "$NET_DIR/idle.py" call "$1" "$2" 30 "$RUN_DIR/idle.client"
  IDLE_PID=$DAEMON_PID
  wait_until 30 grep -q ready "$RUN_DIR/log/idle-client.log" || { cat "$RUN_DIR/log/idle-client.log"; return 1; }
}

lines() { grep -cx "$1" "$RUN_DIR/$2" || true; }

# both_reset B: all connections to B, at the client and at B, and no others.
both_reset() {
  local opened client backend others
  opened=$(lines "open $1" idle.client)
  client=$(lines "reset $1" idle.client)
  backend=$(lines "reset $1" "idle.$1")
  others=$(grep -v "^open" "$RUN_DIR/idle.client" | grep -cv " $1\$" || true)
  echo "$opened connections to $1; reset at the client $client, at the backend $backend; others that ended: $others"
  ((opened > 0 && client == opened && backend == opened && others == 0))
}
becomes_reset() { wait_until 20 both_reset "$1" || { both_reset "$1"; return 1; }; }

admin_is() { [[ $(stat_of "backend('$1', '$2')['admin']") == "$3" ]]; }

# drain SERVICE ADDRESS STATUS OPTION...: and wait; its exit status is STATUS.
drain() {
  local status=0
  ctl backend drain "$1" "$2" --wait "${@:4}" || status=$?
  echo "exit status $status, want $3"
  [[ $status == "$3" ]]
}

# replace B: drain it in both families, stop it, start it, take it back.
replace() {
  local address service pid
  for service in nat4 nat6; do
    if [[ $service == nat4 ]]; then address=$(backend4 "$1"):8080; else address="[$(backend6 "$1")]:8080"; fi
    drain "$service" "$address" 0 --deadline 30s || return
  done
  pid=$(awk -v name="nginx-$1" '$3 == name { pid = $1 } END { print pid }' "$RUN_DIR/pids")
  daemon_stop "$pid" || true
  nginx_start "$1"
  ctl backend enable nat4 "$(backend4 "$1"):8080" && ctl backend enable nat6 "[$(backend6 "$1")]:8080"
}

test_begin 'drains: deadlines that reset, and backends replaced under load'
bed_up two-arm
conf_idle >"$LB_CONFIG"
lb_start "$LB_CONFIG"
idle_serve
for mode in nat full dsr; do
  for family in 4 6; do
    scene "silent connections, $mode, IPv$family"
    case $mode in nat) vip=NAT_VIP$family port=90 own=9090 ;; full) vip=NAT_VIP$family port=91 own=9090 ;; dsr) vip=DSR_VIP$family port=90 own=90 ;; esac
    if [[ $family == 4 ]]; then b2=$(backend4 b2):$own; else b2="[$(backend6 b2)]:$own"; fi
    check 'they open' idle_call "${!vip}" "$port"
    check 'a deadline that keeps them: 5' drain "idle-$mode$family" "$b2" 5 --deadline 1s
    check 'a deadline that resets them: 0' drain "idle-$mode$family" "$b2" 0 --deadline 1s --then reset
    check 'client and backend see a reset, and no one else' becomes_reset b2
    check 'the backend is out' wait_until 10 admin_is "idle-$mode$family" "$b2" disabled
    check 'and comes back' ctl backend enable "idle-$mode$family" "$b2"
    daemon_stop "$IDLE_PID" || true
  done
done

scene 'every backend replaced in turn under load'
traffic_start "$(url "$NAT_VIP4")"
for b in "${BACKENDS[@]}"; do check "$b is drained, stopped, started and taken back" replace "$b"; done
check 'all serve again' http_all "$(url "$NAT_VIP4")" 60
traffic_stop
check 'no request failed' traffic_check
after_all
test_end
