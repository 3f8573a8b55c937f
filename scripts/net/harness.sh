# shellcheck shell=bash
# What every network test shares. A test sources this, names itself with test_begin, brings networks up, makes checks,
# and ends with test_end; each is a program of its own: sudo scripts/net/nat-tcp.sh
#
#   SLUICE_BIN=DIR   use sluiced and sluicectl from DIR rather than target/release
#   VERBOSE=1        also show the daemon's log at the end of a test that passes

set -euo pipefail
NET_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/common.sh
source "$NET_DIR/../lib/common.sh"
# shellcheck source=scripts/lib/packages.sh
source "$NET_DIR/../lib/packages.sh"
# shellcheck source=scripts/lib/hugepages.sh
source "$NET_DIR/../lib/hugepages.sh"
# shellcheck source=scripts/lib/run.sh
source "$NET_DIR/../lib/run.sh"
# shellcheck source=scripts/lib/netns.sh
source "$NET_DIR/../lib/netns.sh"
# shellcheck source=scripts/lib/topology.sh
source "$NET_DIR/../lib/topology.sh"
# shellcheck source=scripts/lib/sluice.sh
source "$NET_DIR/../lib/sluice.sh"

CHECKS=0 FAILED=0

# test_begin WHAT: root, programs, an own run, the binaries, hugepages where the machine allows them.
# HUGEPAGES=false forgoes hugepages; SLUICED=none says that the test runs without the daemon.
test_begin() {
  require_root "$0"
  printf '%s%s%s\n' "$C_BOLD" "$1" "$C_OFF"
  run_open
  on_exit test_show_logs
  LB_SOCKET=$RUN_DIR/sluice.sock
  LB_CONFIG=$RUN_DIR/sluice.toml
  LB_PID=''
  [[ ${SLUICED:-} != none ]] || return 0
  sluice_find
  if [[ ${HUGEPAGES:-} != false ]]; then hugepages_borrow 576; fi
}

# scene NAME: a heading for the checks that follow.
scene() { printf '  %s%s%s\n' "$C_DIM" "$1" "$C_OFF"; }

# check WHAT CMD...: one verdict. CMD's output is shown only when it fails. Inside CMD `set -e` does not hold
# (a shell rule for conditions), so functions used as CMD chain their steps with && or return.
check() {
  local what=$1 out=$RUN_DIR/check.out
  shift
  CHECKS=$((CHECKS + 1))
  if "$@" >"$out" 2>&1; then
    printf '    %sok%s    %s\n' "$C_GREEN" "$C_OFF" "$what"
  else
    printf '    %sFAIL%s  %s\n' "$C_RED" "$C_OFF" "$what"
    sed 's/^/          /' "$out" | head -n 30
    FAILED=$((FAILED + 1))
  fi
}

test_end() {
  if ((FAILED)); then
    printf '  %d of %d checks failed\n' "$FAILED" "$CHECKS"
    exit 1
  fi
  printf '  %d checks passed\n' "$CHECKS"
}

test_show_logs() {
  local status=$? log
  ((FAILED)) || [[ -n ${VERBOSE:-} ]] || return 0
  for log in "$RUN_DIR"/log/*.log; do
    [[ -s $log ]] || continue
    printf '  --- last lines of %s\n' "${log##*/}"
    tail -n 30 "$log" | cut -c 1-300
  done
  return "$status"
}

# --- bringing it up ----------------------------------------------------------------------------------------------

# bed_up one-arm|two-arm: the network and nginx on every backend.
bed_up() {
  topology_up "$1"
  local b
  for b in "${BACKENDS[@]}"; do nginx_start "$b"; done
}

# bed_down: everything of this network away, so that the next one starts clean.
bed_down() {
  local pid started _
  [[ -z $LB_PID ]] || lb_stop || true
  LB_PID=''
  while read -r pid started _; do
    if process_is "$pid" "$started"; then daemon_stop "$pid" || true; fi
  done <"$RUN_DIR/pids"
  : >"$RUN_DIR/pids"
  topology_down
}

# conf_all one-arm|two-arm: the configuration that most tests run: both modes, both families, TCP and UDP.
conf_all() {
  conf_runtime
  conf_ports "$1"
  local f vip_nat vip_dsr
  for f in 4 6; do
    if [[ $f == 4 ]]; then vip_nat=$NAT_VIP4 vip_dsr=$DSR_VIP4; else vip_nat=$NAT_VIP6 vip_dsr=$DSR_VIP6; fi
    # shellcheck disable=SC2046  # one word per backend
    {
      conf_service "nat$f" "$vip_nat" 80 tcp nat maglev $(conf_backends $f 8080)
      conf_service "nat$f-udp" "$vip_nat" 53 udp nat maglev $(conf_backends $f 5300)
      conf_service "dsr$f" "$vip_dsr" 80 tcp dsr maglev $(conf_backends $f 80)
      conf_service "dsr$f-udp" "$vip_dsr" 5300 udp dsr maglev $(conf_backends $f 5300)
    }
  done
}

# up TOPOLOGY: network, nginx, and sluiced with conf_all.
up() {
  bed_up "$1"
  conf_all "$1" >"$LB_CONFIG"
  lb_start "$LB_CONFIG"
}

# --- checks ------------------------------------------------------------------------------------------------------

# bad_checksums: what the kernels of the client and the backends threw away for a wrong checksum; must be 0.
bad_checksums() {
  local n sum=0 count
  for n in client "${BACKENDS[@]}"; do
    count=$(in_ns "$n" nstat -asz | awk '/InCsumErrors/ { n += $2 } END { print n + 0 }')
    [[ $count == 0 ]] || echo "$n: $count packets with a wrong checksum"
    sum=$((sum + count))
  done
  ((sum == 0))
}

# after_all: what holds after every scene.
after_all() {
  check 'no packet arrived with a wrong checksum' bad_checksums
  check 'both conservation equations hold' conservation
  check 'sluiced still runs' process_started "$LB_PID"
  check 'no panic in the log' no_panic
}

no_panic() { ! grep -niE 'panicked|stack backtrace|segmentation' "$RUN_DIR/log/sluiced.log"; }

# http_all VIP COUNT: COUNT requests, a connection each; every one answered and every backend used.
http_all() {
  local url=$1 count=$2 out=$RUN_DIR/http.out failed
  : >"$out"
  http_requests client "$url" "$count" "$out"
  failed=$(http_failed "$out" "$count")
  echo "$failed of $count failed; spread: $(http_spread "$out")"
  awk '$2 != 200 || $3 != 0' "$out" | sort | uniq -c | head -n 5
  [[ $failed == 0 && $(awk '{ print $1 }' "$out" | sort -u | wc -l) == "${#BACKENDS[@]}" ]]
}

# url VIP: http://VIP/ with brackets where they belong.
url() {
  case $1 in *:*) echo "http://[$1]/" ;; *) echo "http://$1/" ;; esac
}

# blob MIB: a file of random bytes for downloads, /files/blob; sets BLOB_SHA256.
blob() {
  mkdir -p "$RUN_DIR/files"
  head -c "$(($1 * 1024 * 1024))" /dev/urandom >"$RUN_DIR/files/blob"
  BLOB_SHA256=$(sha256sum <"$RUN_DIR/files/blob")
}

# download URL: the blob arrives byte for byte.
download() {
  local got
  got=$(in_ns client curl -sS --fail --max-time 300 "$1files/blob" | sha256sum)
  [[ $got == "$BLOB_SHA256" ]] || { echo "sha256 differs: $got"; return 1; }
}

# traffic_start URL: requests without end in the background, a connection each, until traffic_check.
traffic_start() {
  TRAFFIC_OUT=$RUN_DIR/traffic.out
  : >"$TRAFFIC_OUT"
  rm -f "$RUN_DIR/traffic.stop"
  (
    trap - EXIT
    deadline=$((SECONDS + 300))
    while [[ -d $RUN_DIR && ! -e $RUN_DIR/traffic.stop ]] && ((SECONDS < deadline)); do
      http_requests client "$1" 20 "$TRAFFIC_OUT" --fail-early
    done
  ) &
  TRAFFIC_PID=$!
  wait_until 60 test -s "$TRAFFIC_OUT" || true
}

# traffic_stop: end it; traffic_check: it ran all the while and nothing failed.
traffic_stop() {
  touch "$RUN_DIR/traffic.stop"
  wait "$TRAFFIC_PID" || true
}
traffic_check() {
  local count failed
  count=$(wc -l <"$TRAFFIC_OUT")
  failed=$(http_failed "$TRAFFIC_OUT" "$count")
  echo "$failed of $count requests failed; spread: $(http_spread "$TRAFFIC_OUT")"
  awk '$2 != 200 || $3 != 0' "$TRAFFIC_OUT" | sort | uniq -c | head -n 5
  ((count > 0 && failed == 0))
}

# udp_servers ADDRESS...: the echo server on every backend, port 5300.
udp_servers() {
  local b
  for b in "${BACKENDS[@]}"; do
    daemon_start "udp-$b" ip netns exec "$(ns "$b")" python3 "$NET_DIR/udp_echo.py" "$b" 5300 "$@"
    wait_until 30 grep -q ready "$RUN_DIR/log/udp-$b.log" || die "the UDP server did not start on $b"
  done
}

# udp VIP PORT LARGEST FLOWS [OPTION]
udp() { in_ns client timeout 300 python3 "$NET_DIR/udp_client.py" "$@"; }
