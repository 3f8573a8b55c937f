#!/usr/bin/env bash
# The daemon's life: start, second start, stale socket, stop, and every way in which it must refuse to start.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# refuses PATTERN CMD...: CMD ends by itself with a status other than 0 and one clear error that matches PATTERN:
# no panic, no bare number, and the last line says it.
refuses() {
  local pattern=$1 status=0 out=$RUN_DIR/refuses.out
  shift
  timeout --kill-after=10 60 "$@" >"$out" 2>&1 </dev/null || status=$?
  cat "$out"
  echo "exit status $status"
  ((status != 0 && status != 124 && status != 137)) || return 1
  ! grep -qiE 'panicked|backtrace|core dumped' "$out" || return 1
  [[ $(grep -ciE '^(error|sluiced: error)|\bERROR\b' "$out") -le 1 ]] || { echo 'more than one error'; return 1; }
  grep -qiE "$pattern" "$out" || { echo "nothing matches: $pattern"; return 1; }
}

# with EDIT: the right file through sed, with a socket of its own.
with() { conf_all two-arm | sed -e "s|^socket = .*|socket = \"$RUN_DIR/other.sock\"|" -e "$1" >"$RUN_DIR/other.toml"; }

check_only() { # --check judges the file in the same words, and needs neither ports nor memory
  refuses "$1" "$SLUICED" --config "$RUN_DIR/other.toml" --check
}

stops_cleanly() {
  local status=0
  lb_stop || status=$?
  echo "exit status $status"
  [[ $status == 0 && ! -e $LB_SOCKET ]]
}

still_the_first() { [[ $(stat_of 's["workers"][0]["cpu"]') == "$WORKER_CPU" ]] && process_started "$LB_PID"; }
nothing_left() { ! compgen -G "/dev/hugepages/*sluice*"; }

test_begin 'daemon: starts, refuses to start, stops'
conf_cpus
bed_up two-arm
conf_all two-arm >"$LB_CONFIG"

start=(ip netns exec "$(ns lb)" "$SLUICED" --config)
# Hide the machine's hugepages from one process: an empty directory over the kernel's list, in its own mount namespace
# (which ip netns exec makes).
# shellcheck disable=SC2016
without_hugepages=(ip netns exec "$(ns lb)" sh -c 'mount -t tmpfs none /sys/kernel/mm/hugepages && exec "$@"' sh "$SLUICED" --config)
cp "$SLUICED" "$RUN_DIR/sluiced" # where nobody may read it
chmod 755 "$RUN_DIR/sluiced"
as_nobody=(ip netns exec "$(ns lb)" setpriv --reuid=65534 --regid=65534 --clear-groups "$RUN_DIR/sluiced" --config)

# The patterns below are loose on purpose: they pin what an error must name, not its wording.

scene 'files that it must refuse, each in one clear error'
with 's/^max_connections/max_conections/'
check 'unknown key' refuses 'max_conections' "${start[@]}" "$RUN_DIR/other.toml"
check 'unknown key, --check' check_only 'max_conections'
check 'the error names file and line' grep -qE 'other\.toml' "$RUN_DIR/refuses.out"
with "s/^vip = \"$DSR_VIP4\"/vip = \"$NAT_VIP4\"/"
check 'overlapping services' refuses 'overlap|nat4' "${start[@]}" "$RUN_DIR/other.toml"
check 'overlapping services, --check' check_only 'overlap|nat4'
with 's/^\[runtime\]/[runtime/'
check 'no TOML' check_only 'line|runtime'
check 'no such file' refuses 'nowhere\.toml' "$SLUICED" --config "$RUN_DIR/nowhere.toml"
check 'no --config' refuses 'config' "$SLUICED"
with ''
check '--check accepts the right file' "$SLUICED" --config "$RUN_DIR/other.toml" --check

scene 'machines that it must refuse'
with 's/iface=lan"/iface=nolan"/'
check 'unreachable device' refuses 'lan' "${start[@]}" "$RUN_DIR/other.toml"
with 's/^device = "net_af_packet1,iface=lan"/device = "0000:ff:1f.7"/'
check 'PCI device that is not there' refuses '0000:ff:1f\.7' "${start[@]}" "$RUN_DIR/other.toml"
with 's/^hugepages = .*/hugepages = true/; s/^memory = .*/memory = "900G"/'
check 'too little memory' refuses 'memory|hugepage' "${start[@]}" "$RUN_DIR/other.toml"
with 's/^hugepages = .*/hugepages = false/; s/^memory = .*/memory = "1M"/'
check 'memory too small for its tables' refuses 'memory' "${start[@]}" "$RUN_DIR/other.toml"
with 's/^hugepages = .*/hugepages = true/'
check 'no hugepages' refuses 'hugepage' "${without_hugepages[@]}" "$RUN_DIR/other.toml"
with "s/^workers = .*/workers = [4095]/"
check 'a CPU that is not there' refuses '4095' "${start[@]}" "$RUN_DIR/other.toml"
with ''
check 'no permission to make the socket' refuses 'permi|root' "${as_nobody[@]}" "$RUN_DIR/other.toml"
mkdir "$RUN_DIR/nobody"
chown 65534:65534 "$RUN_DIR/nobody"
with "s|other.sock|nobody/other.sock|; s/^hugepages = .*/hugepages = false/"
check 'no permission to open the device' refuses 'permi|root|CAP_' env XDG_RUNTIME_DIR="$RUN_DIR/nobody" "${as_nobody[@]}" "$RUN_DIR/other.toml"

scene 'one daemon a socket'
lb_start "$LB_CONFIG"
check 'it serves' http_all "$(url "$NAT_VIP4")" 30
check 'a second daemon on the same socket is refused' refuses 'sluice\.sock|already|running' "${start[@]}" "$LB_CONFIG"
check 'the first one did not notice' still_the_first
check 'and still serves' http_all "$(url "$NAT_VIP4")" 30
after_all

scene 'stop and start'
check 'SIGTERM stops it with status 0, the socket is gone' stops_cleanly
check 'no hugepage files are left' nothing_left
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$LB_SOCKET"
lb_start "$LB_CONFIG"
check 'a stale socket is replaced' ctl status
check 'and it serves' http_all "$(url "$NAT_VIP4")" 30
daemon_kill "$LB_PID"
lb_start "$LB_CONFIG"
check 'it starts again after SIGKILL' http_all "$(url "$NAT_VIP4")" 30
traffic_start "$(url "$NAT_VIP4")"
check 'SIGTERM under traffic stops it with status 0' stops_cleanly
traffic_stop
lb_start "$LB_CONFIG"
kill -INT "$LB_PID"
check 'SIGINT stops it too' wait_until 30 pid_gone "$LB_PID"
LB_PID=''
test_end
