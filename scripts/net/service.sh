#!/usr/bin/env bash
# The daemon under a service manager: what it is told and when, the watchdog that only a daemon in motion feeds, and the
# privileges that are left once it runs. There need be no systemd: a socket and a few variables are all it takes.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

NOTIFY=''
# manager_start: listens as systemd would; every message becomes lines in $RUN_DIR/notify, each with the time in front.
manager_start() {
  NOTIFY=$RUN_DIR/notify.sock
  daemon_start manager python3 "$NET_DIR/notify.py" "$NOTIFY" "$RUN_DIR/notify"
  wait_until 30 test -S "$NOTIFY" || die 'the service manager did not start'
}

# managed_start: sluiced with a watchdog of $1 seconds.
managed_start() {
  : >"$RUN_DIR/notify"
  daemon_start sluiced ip netns exec "$(ns lb)" env NOTIFY_SOCKET="$NOTIFY" WATCHDOG_USEC="$(($1 * 1000000))" "$SLUICED" --config "$LB_CONFIG"
  LB_PID=$DAEMON_PID
  wait_until 60 told 'READY=1' || { lb_log >&2; die 'sluiced did not say that it is ready'; }
}

told() { grep -qE "^[0-9.]+ $1" "$RUN_DIR/notify"; }
count() { grep -cE "^[0-9.]+ $1" "$RUN_DIR/notify" || true; }
# further PATTERN BEFORE: more messages like it came than there were.
further() { (($(count "$1") > $2)); }
all_of() { cat "$RUN_DIR/notify"; }

ready_means_serving() {
  all_of
  # The control socket answers at once, by the first message.
  [[ $(head -n 1 "$RUN_DIR/notify") == *' READY=1' ]] && ctl status
}

reload_tells() {
  kill -HUP "$LB_PID"
  wait_until 30 further READY=1 1 || { all_of; return 1; }
  all_of
  # In this order: it reads, and then it is ready again.
  grep -oE '(RELOADING|READY)=1' "$RUN_DIR/notify" | tr '\n' ' ' | grep -qx 'READY=1 RELOADING=1 READY=1 '
}

wrong_reload_tells() {
  local before
  before=$(count READY=1)
  conf_all two-arm | sed 's/^max_connections/max_conections/' >"$LB_CONFIG"
  kill -HUP "$LB_PID"
  wait_until 30 further READY=1 "$before" || { all_of; return 1; }
  all_of
  told 'STATUS=nothing was changed: .*max_conections'
}

# worker_thread: the number of the first worker's thread.
worker_thread() {
  local task
  for task in "/proc/$LB_PID/task/"*; do
    if [[ $(<"$task/comm") == "worker-$WORKER_CPU" ]]; then echo "${task##*/}"; return; fi
  done
  return 1
}

fed() { further WATCHDOG=1 "$1"; }
# starves_while_stopped: one thread alone is held by ptrace(2); within the watchdog's time no message comes, and the control
# thread answers all the while.
starves_while_stopped() {
  local thread before after
  thread=$(worker_thread) || { echo 'no worker thread'; return 1; }
  python3 "$NET_DIR/hold_thread.py" "$thread" 7 >"$RUN_DIR/hold_thread.out" 2>&1 &
  local holder=$!
  wait_until 30 grep -q held "$RUN_DIR/hold_thread.out" || { cat "$RUN_DIR/hold_thread.out"; return 1; }
  # One look may fall together with the stop.
  sleep 1.2
  before=$(count WATCHDOG=1)
  sleep 4
  after=$(count WATCHDOG=1)
  ctl status || return
  wait "$holder" || return
  echo "$before messages when it stopped, $after later"
  ((before == after))
}

# threads_have SET: the capabilities of every thread are exactly those in the set (hexadecimal), and none can gain any.
threads_have() {
  local task wrong=0 threads=0 set nnp
  for task in "/proc/$LB_PID/task/"*; do
    threads=$((threads + 1))
    for field in CapEff CapPrm; do
      set=$(awk -v f="$field:" '$1 == f { print $2 }' "$task/status")
      [[ $((16#$set)) == $((16#$1)) ]] || { echo "$(<"$task/comm"): $field $set"; wrong=1; }
    done
    nnp=$(awk '$1 == "NoNewPrivs:" { print $2 }' "$task/status")
    [[ $nnp == 1 ]] || { echo "$(<"$task/comm"): no_new_privs is $nnp"; wrong=1; }
    printf '%s ' "$(<"$task/comm")"
  done
  echo "$threads threads"
  ((wrong == 0 && threads > 2))
}

right_reload() {
  local before
  before=$(count READY=1)
  kill -HUP "$LB_PID"
  wait_until 30 further READY=1 "$before" && ! grep -E 'STATUS=nothing was changed' "$RUN_DIR/notify" | tail -n +2 | grep .
}

no_program() { ! ns_ip lb link show dev wan | grep xdp; }

# doctor STATUS CHECK SUBJECT LEVEL: what the daemon says of the machine that it runs on, and how the command ends.
doctor() {
  local status=0
  ctl -o json doctor >"$RUN_DIR/doctor.json" || status=$?
  ctl doctor || true
  echo "exit status $status"
  [[ $status == "$1" ]] && python3 - "$RUN_DIR/doctor.json" "$2" "$3" "$4" <<'PY'
import json, sys
file, check, subject, level = sys.argv[1:]
diagnosis = json.load(open(file))
assert diagnosis["daemon"], "not by the daemon"
found = [one["level"] for one in diagnosis["findings"] if (one["check"], one["subject"]) == (check, subject)]
assert found == [level], found
PY
}

stops_and_tells() {
  local status=0
  lb_stop || status=$?
  LB_PID=''
  echo "exit status $status"
  all_of
  [[ $status == 0 ]] && told STOPPING=1
}

test_begin 'service: notification, watchdog, privileges'
conf_cpus
bed_up two-arm
manager_start
conf_all two-arm >"$LB_CONFIG"

scene 'notification'
managed_start 3
check 'ready once workers run and the configuration is in force' ready_means_serving
check 'the status line says how it is' told 'STATUS=generation 1: .* 2 of 2 ports up, 1 workers'
check 'it serves' http_all "$(url "$NAT_VIP4")" 30
check 'SIGHUP: reloading, then ready' reload_tells
check 'a wrong file: ready again, and the status says why' wrong_reload_tells
conf_all two-arm >"$LB_CONFIG"

scene 'watchdog'
check 'it is fed' wait_until 10 fed 2
check 'not while a worker stands still' starves_while_stopped
check 'and again when the worker goes on' wait_until 10 fed "$(count WATCHDOG=1)"

scene 'doctor'
check 'this machine has no problem, and the interface is up' doctor 0 interface 'port wan' ok
ns_ip lb link set wan down
check 'an interface that is down is a problem' doctor 1 interface 'port wan' problem
ns_ip lb link set wan up
check 'up again, it is none' wait_until 30 doctor 0 interface 'port wan' ok

scene 'privileges'
check 'no thread has a capability left, or can gain one' threads_have 0
check 'a reload works without' right_reload
check 'it still serves' http_all "$(url "$NAT_VIP4")" 30
after_all
check 'SIGTERM: stopping is told, status 0' stops_and_tells
check 'the socket is removed' test ! -e "$LB_SOCKET"

scene 'a port that needs some'
sed 's/net_af_packet0,iface=wan/net_af_xdp0,iface=wan/' "$LB_CONFIG" >"$RUN_DIR/xdp.toml"
LB_CONFIG=$RUN_DIR/xdp.toml
if managed_start 3; then
  # CAP_NET_ADMIN is 12, CAP_BPF 39.
  check 'AF_XDP keeps CAP_NET_ADMIN and CAP_BPF' threads_have 8000001000
  check 'it stops' stops_and_tells
  check 'its program is off the interface' no_program
fi
test_end
