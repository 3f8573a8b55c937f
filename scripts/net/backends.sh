#!/usr/bin/env bash
# Backends under administration while clients are connected: disable, drain, enable, weight.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# hold_start VIP COUNT: COUNT connections in the background, asking all the time.
hold_start() {
  rm -f "$RUN_DIR"/hold.{stop,names,out}
  ip netns exec "$(ns client)" python3 "$NET_DIR/hold.py" "$1" 80 "$2" "$RUN_DIR" >"$RUN_DIR/hold.out" 2>&1 &
  HOLD_PID=$!
  wait_until 60 test -e "$RUN_DIR/hold.names" || { cat "$RUN_DIR/hold.out"; die 'the held connections did not open'; }
}

# hold_ends_well: every held connection lived to the end, with the backend it began with.
hold_ends_well() {
  local status=0
  touch "$RUN_DIR/hold.stop"
  wait "$HOLD_PID" || status=$?
  cat "$RUN_DIR/hold.out"
  return "$status"
}

held_on() { grep -qx "$1" "$RUN_DIR/hold.names"; }
hold_alive() { process_started "$HOLD_PID"; }

admin_is() {
  local got
  got=$(stat_of "backend('$1', '$2')['admin']")
  echo "admin is $got"
  [[ $got == "$3" ]]
}

# without B VIP: 120 new connections, all served, none by B.
without() {
  local out=$RUN_DIR/without.out
  : >"$out"
  http_requests client "$(url "$2")" 120 "$out"
  echo "$(http_failed "$out" 120) failed; $(http_spread "$out")"
  [[ $(http_failed "$out" 120) == 0 ]] && ! grep -q "^$1 " "$out"
}

# share B VIP LOW HIGH: B gets between LOW and HIGH of 400 new connections.
share() {
  local out=$RUN_DIR/share.out n
  : >"$out"
  http_requests client "$(url "$2")" 400 "$out"
  n=$(grep -c "^$1 " "$out" || true)
  echo "$(http_failed "$out" 400) failed; $(http_spread "$out")"
  [[ $(http_failed "$out" 400) == 0 ]] && ((n >= $3 && n <= $4))
}

refused() { # WANT CMD...: the exit status is WANT, and standard error says something
  local want=$1 got=0
  shift
  "$@" 2>"$RUN_DIR/refused" >/dev/null || got=$?
  cat "$RUN_DIR/refused"
  echo "exit status $got, want $want"
  [[ $got == "$want" && -s $RUN_DIR/refused ]]
}

test_begin 'backends: disable, drain, enable and weight while clients are connected'
up two-arm
for mode in nat dsr; do
  for family in 4 6; do
    vip=${mode^^}_VIP$family vip=${!vip} service=$mode$family
    [[ $mode == nat ]] && port=8080 || port=80
    if [[ $family == 4 ]]; then b2=$(backend4 b2):$port; else b2="[$(backend6 b2)]:$port"; fi
    scene "$mode, IPv$family"
    hold_start "$vip" 12
    check 'b2 holds some of the connections' held_on b2
    check 'disable is accepted' ctl backend disable "$service" "$b2"
    check 'statistics say disabled' admin_is "$service" "$b2" disabled
    check 'no new connection reaches it' without b2 "$vip"
    check 'its old connections go on' hold_alive
    check 'enable is accepted' ctl backend enable "$service" "$b2"
    check 'statistics say enabled' admin_is "$service" "$b2" enabled
    check 'it gets new connections again' http_all "$(url "$vip")" 120
    check 'drain is accepted' ctl backend drain "$service" "$b2" --deadline 10m
    check 'statistics say draining' admin_is "$service" "$b2" draining
    check 'no new connection reaches it' without b2 "$vip"
    check 'all held connections lived through it' hold_ends_well
    check 'enable ends the drain' ctl backend enable "$service" "$b2"
    check 'it gets new connections again' http_all "$(url "$vip")" 120
  done
done

scene 'drain --wait'
b2=$(backend4 b2):8080
hold_start "$NAT_VIP4" 12
drain_status=0
ctl backend drain nat4 "$b2" --deadline 1s --wait >"$RUN_DIR/drain.out" 2>&1 || drain_status=$?
check 'a deadline that comes first: 5' test "$drain_status" = 5
check 'the connections live on' hold_alive
ctl backend drain nat4 "$b2" --deadline 5m --wait >"$RUN_DIR/drain.out" 2>&1 &
drain_pid=$!
check 'all held connections lived through it' hold_ends_well
check 'it returns once they have ended: 0' wait "$drain_pid"
check 'enable ends the drain' ctl backend enable nat4 "$b2"

scene 'weights'
b1=$(backend4 b1):8080 b2=$(backend4 b2):8080
check 'weights are about equal at first' share b1 "$NAT_VIP4" 70 200
check 'weight 10 is accepted' ctl backend set-weight nat4 "$b1" 10
check 'weight 10 of 210 gets few' share b1 "$NAT_VIP4" 1 60
check 'weight 0 is accepted' ctl backend set-weight nat4 "$b1" 0
check 'weight 0 gets none' without b1 "$NAT_VIP4"
check 'another change does not bring weight 0 back' ctl backend set-weight nat4 "$b2" 50
check 'weight 0 still gets none' without b1 "$NAT_VIP4"

scene 'requests that make no sense'
check 'a service that is not there: 4' refused 4 ctl backend disable nowhere "$b1"
check 'a backend that is not there: 4' refused 4 ctl backend disable nat4 10.1.0.99:8080
check 'a verb that is not there: 2' refused 2 ctl backend explode nat4 "$b1"
check 'no daemon at that socket: 3' refused 3 "$SLUICECTL" --socket "$RUN_DIR/nobody.sock" status
after_all
test_end
