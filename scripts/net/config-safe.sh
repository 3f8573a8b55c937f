#!/usr/bin/env bash
# Configuration that cannot hurt: a trial without confirmation is rolled back while traffic flows, and applies without end
# break no connection.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# APPLIES: how many applies in a row.
APPLIES=${APPLIES:-300}

conf_extra() {
  conf_all two-arm
  # shellcheck disable=SC2046
  conf_service extra 192.0.2.11 80 tcp nat maglev $(conf_backends 4 8080)
}

# conf_without_b1: the service under load loses a backend; its connections go on.
conf_without_b1() { conf_all two-arm | sed "/^name = \"nat4\"$/,/^\[\[service\]\]$/ { /^\[\[service.backend\]\]$/ { N; /$(backend4 b1):8080/d } }"; }

hold_start() {
  rm -f "$RUN_DIR"/hold.{stop,names,out}
  ip netns exec "$(ns client)" python3 "$NET_DIR/hold.py" "$NAT_VIP4" 80 12 "$RUN_DIR" >"$RUN_DIR/hold.out" 2>&1 &
  HOLD_PID=$!
  wait_until 60 test -e "$RUN_DIR/hold.names" || { cat "$RUN_DIR/hold.out"; die 'the held connections did not open'; }
}

hold_ends_well() {
  local status=0
  touch "$RUN_DIR/hold.stop"
  wait "$HOLD_PID" || status=$?
  cat "$RUN_DIR/hold.out"
  return "$status"
}

serves() { in_ns client curl -sf -o "$RUN_DIR/served" --connect-timeout 1 --max-time 2 "$1"; }
serves_no_more() { ! serves "$1"; }
fails_with() { # STATUS CMD...
  local want=$1 got=0
  shift
  "$@" || got=$?
  echo "exit status $got, want $want"
  [[ $got == "$want" ]]
}
says() { # WORDS CMD...
  local out
  out=$("${@:2}") || return
  echo "$out"
  grep -qF -- "$1" <<<"$out"
}

many_applies() {
  local i
  for ((i = 0; i < APPLIES; i++)); do
    case $((i % 3)) in 0) file=extra ;; 1) file=without ;; 2) file=all ;; esac
    ctl config apply "$RUN_DIR/$file.toml" >"$RUN_DIR/apply.out" || { cat "$RUN_DIR/apply.out"; return 1; }
  done
}

export_is_in_force() {
  ctl config export >"$RUN_DIR/exported.toml" && says 'the same as' ctl config diff "$RUN_DIR/exported.toml"
}

test_begin 'configuration: trials, rolling back, and applies without end'
up two-arm
conf_all two-arm >"$RUN_DIR/all.toml"
conf_extra >"$RUN_DIR/extra.toml"
conf_without_b1 >"$RUN_DIR/without.toml"
traffic_start "$(url "$NAT_VIP4")"
hold_start

scene 'trial'
check 'diff says what would change' says 'service "extra" added' ctl config diff "$RUN_DIR/extra.toml"
check 'apply for three seconds' ctl config apply "$RUN_DIR/extra.toml" --confirm-timeout 3s
check 'it serves' wait_until 10 serves http://192.0.2.11/
check 'another apply has to wait' fails_with 1 ctl config apply "$RUN_DIR/all.toml"
check 'nobody confirms: it is rolled back' wait_until 20 serves_no_more http://192.0.2.11/
check 'confirm comes too late' fails_with 1 ctl config confirm
check 'apply again' ctl config apply "$RUN_DIR/extra.toml" --confirm-timeout 3s
check 'and confirm' ctl config confirm
sleep 4
check 'it stays' serves http://192.0.2.11/
check 'rollback by hand' ctl config rollback
check 'it serves no more' serves_no_more http://192.0.2.11/

scene 'changed at run time'
b3=$(backend4 b3):8080
check 'a backend is disabled' ctl backend disable nat4 "$b3"
check 'diff shows it' says "backend $b3 is disabled" ctl config diff "$RUN_DIR/all.toml"
check 'apply keeps it, and says so' says "still so: service \"nat4\": backend $b3 is disabled" ctl config apply "$RUN_DIR/all.toml"
check 'enable' ctl backend enable nat4 "$b3"
check 'the export reads back as the same' export_is_in_force
check 'check asks the daemon' fails_with 1 ctl config check <(sed 's/^max_connections = .*/max_connections = 7/' "$RUN_DIR/all.toml")

scene "$APPLIES applies under load"
check 'all are accepted' many_applies
check 'the held connections lived through it' hold_ends_well
traffic_stop
check 'no request failed' traffic_check
after_all
test_end
