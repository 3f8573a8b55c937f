#!/usr/bin/env bash
# Configuration changes while traffic flows: applied ones take effect and lose nothing, wrong ones change nothing.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

generation() { stat_of 's["generation"]'; }
generation_above() { (($(generation) > $1)); }

# conf_with NAME VIP: everything as before, and one more service.
conf_with() {
  conf_all two-arm
  # shellcheck disable=SC2046
  conf_service "$1" "$2" 80 tcp nat round-robin $(conf_backends 4 8080)
}

# Each takes the right file on standard input and makes it wrong in one way.
unknown_key() { sed 's/^name = "nat4"$/&\ncolour = "blue"/'; }
overlapping() { cat - <(conf_service twin "$NAT_VIP4" 80 tcp nat maglev "$(backend4 b1):8080"); }
duplicate_name() { sed 's/^name = "nat6"$/name = "nat4"/'; }
bad_address() { sed "s/^vip = \"$NAT_VIP4\"/vip = \"192.0.2.300\"/"; }
bad_syntax() { sed 's/^\[runtime\]/[runtime/'; }
no_backends() { cat - <(conf_service empty 192.0.2.15 80 tcp nat maglev); }
mixed_families() { cat - <(conf_service mixed 192.0.2.15 80 tcp nat maglev "[$(backend6 b1)]:8080"); }

# wrong_apply KIND: refused with a reason, by apply and by SIGHUP; the generation stays, the services stay.
wrong_apply() {
  local before after status=0
  conf_all two-arm | "$1" >"$RUN_DIR/wrong.toml"
  before=$(generation)
  ctl config apply "$RUN_DIR/wrong.toml" >"$RUN_DIR/wrong.out" 2>&1 || status=$?
  after=$(generation)
  cat "$RUN_DIR/wrong.out"
  echo "exit status $status, generation $before -> $after"
  [[ $status == 1 && -s $RUN_DIR/wrong.out && $before == "$after" ]]
}

check_refuses() {
  local status=0
  conf_all two-arm | "$1" >"$RUN_DIR/wrong.toml"
  ctl config check "$RUN_DIR/wrong.toml" || status=$?
  echo "config check: exit status $status"
  [[ $status != 0 ]]
}

wrong_hangup() {
  local before after
  conf_all two-arm | unknown_key >"$LB_CONFIG"
  before=$(generation)
  kill -HUP "$LB_PID"
  # Until the daemon has said what is wrong.
  wait_until 30 grep -q colour "$RUN_DIR/log/sluiced.log" || { echo 'nothing in the log'; return 1; }
  after=$(generation)
  echo "generation $before -> $after"
  [[ $before == "$after" ]]
}

right_hangup() {
  local before
  before=$(generation)
  conf_with new "$1" >"$LB_CONFIG"
  kill -HUP "$LB_PID"
  wait_until 30 generation_above "$before"
}

# Ten applies in a row, a service coming and going.
churn() {
  local i
  for i in 1 2 3 4 5 6 7 8 9 10; do
    if ((i % 2)); then conf_with churn 192.0.2.13 >"$RUN_DIR/churn.toml"; else conf_all two-arm >"$RUN_DIR/churn.toml"; fi
    ctl config apply "$RUN_DIR/churn.toml" || return
  done
}

apply() { "$1" "${@:2}" >"$RUN_DIR/right.toml" && ctl config check "$RUN_DIR/right.toml" && ctl config apply "$RUN_DIR/right.toml"; }
gone() { ! in_ns client curl -s --connect-timeout 1 --max-time 2 "$1"; }

test_begin 'configuration: apply and SIGHUP while traffic flows'
up two-arm
blob 100
traffic_start "$(url "$NAT_VIP4")"
before=$(generation)

scene 'applied'
check 'a service is added' apply conf_with extra 192.0.2.11
check 'the generation went up' generation_above "$before"
check 'it serves' http_all http://192.0.2.11/ 60
check 'a service is removed' apply conf_all two-arm
check 'it serves no more' gone http://192.0.2.11/
check 'SIGHUP reads the file again' right_hangup 192.0.2.12
check 'what it added serves' http_all http://192.0.2.12/ 60
check 'ten applies in a row' churn
# A long download has to live through further applies.
download "$(url "$NAT_VIP6")" >"$RUN_DIR/download.out" 2>&1 &
download_pid=$!
check 'and ten more during a download' churn
check 'the download arrives byte for byte' wait "$download_pid"

scene 'refused'
for kind in unknown_key overlapping duplicate_name bad_address bad_syntax no_backends mixed_families; do
  check "apply: ${kind//_/ }" wrong_apply "$kind"
  check "check: ${kind//_/ }" check_refuses "$kind"
done
check 'SIGHUP with a wrong file changes nothing' wrong_hangup
check 'the services still serve (nat)' http_all "$(url "$NAT_VIP4")" 60
check 'the services still serve (dsr)' http_all "$(url "$DSR_VIP6")" 60

traffic_stop
check 'no request failed through all of this' traffic_check
after_all
test_end
