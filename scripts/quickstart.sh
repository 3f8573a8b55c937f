#!/usr/bin/env bash
# One command from a fresh Debian 12 to real HTTP through Sluice: see usage below.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/quickstart.sh [--keep | --stop [ID] | --help]

As root, on Debian 12: installs what is missing, builds Sluice in release mode, borrows hugepages where it may, makes a
network of namespaces (a client, the balancer, three backends; IPv4 and IPv6), starts sluiced on AF_PACKET ports in front
of three nginx, sends 1,000 HTTP requests through a nat service and 1,000 through a dsr service, and shows how they spread
and what sluicectl says. Exit status 0 only if none failed. It cleans up after itself, also when interrupted.

  --keep   leave everything running afterwards, and say how to talk to it
  --stop   stop what --keep left running: the run with that ID, or all
  --help   this text

The machine's own interfaces are not touched: every interface is made inside a namespace and goes with it.
SLUICE_BIN=DIR uses sluiced and sluicectl from DIR in place of building them.
TEXT
}

KEEP=0 STOP=0 STOP_ID=
case ${1:-} in
  '') ;;
  --keep) KEEP=1 ;;
  --stop) STOP=1 STOP_ID=${2:-} ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac
(($# <= 1 + STOP)) || { usage >&2; exit 2; }

LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"
# shellcheck source=scripts/lib/packages.sh
source "$LIB/packages.sh"
# shellcheck source=scripts/lib/hugepages.sh
source "$LIB/hugepages.sh"
# shellcheck source=scripts/lib/run.sh
source "$LIB/run.sh"
# shellcheck source=scripts/lib/netns.sh
source "$LIB/netns.sh"
# shellcheck source=scripts/lib/topology.sh
source "$LIB/topology.sh"
# shellcheck source=scripts/lib/sluice.sh
source "$LIB/sluice.sh"

require_root "$0"
if ((STOP)); then
  stopped=$(run_stop_kept "$STOP_ID")
  case $stopped in
    0) echo 'nothing was left running' ;;
    1) echo 'stopped' ;;
    *) echo "stopped $stopped runs" ;;
  esac
  exit 0
fi

# --- the configuration -------------------------------------------------------------------------------------------

configuration() {
  conf_runtime
  conf_ports two-arm
  # shellcheck disable=SC2046  # one word per backend
  {
    conf_service web-nat "$NAT_VIP4" 80 tcp nat maglev $(conf_backends 4 8080)
    conf_service web-nat-v6 "$NAT_VIP6" 80 tcp nat maglev $(conf_backends 6 8080)
    conf_service web-dsr "$DSR_VIP4" 80 tcp dsr maglev $(conf_backends 4 80)
    conf_service web-dsr-v6 "$DSR_VIP6" 80 tcp dsr maglev $(conf_backends 6 80)
  }
}

# requests MODE VIP4 VIP6: 1,000 requests, half over each family; adds to FAILURES.
FAILURES=0
requests() {
  local start=$SECONDS out=$RUN_DIR/$1.out failed
  : >"$out"
  http_requests client "http://$2/" 500 "$out"
  http_requests client "http://[$3]/" 500 "$out"
  failed=$(http_failed "$out" 1000)
  FAILURES=$((FAILURES + failed))
  step "$1" "1,000 requests in $(seconds_since "$start"), $failed failed: $(http_spread "$out")"
  ((failed == 0)) || awk '$2 != 200 || $3 != 0 { n["HTTP " $2 ", curl " $3]++ } END { for (k in n) print "              " n[k] " x " k }' "$out"
}

say_sluicectl() {
  printf '\n%s$ sluicectl %s%s\n' "$C_DIM" "$1" "$C_OFF"
  ctl "$1"
}

# --- the show ----------------------------------------------------------------------------------------------------

START=$SECONDS
printf '%sSluice quickstart%s\n' "$C_BOLD" "$C_OFF"
ensure_packages "${SLUICE_BUILD_PACKAGES[@]}" "${SLUICE_NET_PACKAGES[@]}"
build_release
sluice_find

run_open
hugepages_borrow 576
step hugepages "$HUGEPAGES_WHY"
[[ $HUGEPAGES == true ]] || note 'going on without: slower, otherwise the same'

topology_up two-arm
step network 'client 10.0.0.1 -- wan 10.0.0.2 [sluiced] lan 10.1.0.1 -- backends 10.1.0.11 .12 .13'
note 'and the same over IPv6; dsr answers go from the backends straight to the client'
for backend in "${BACKENDS[@]}"; do nginx_start "$backend"; done
step backends 'three nginx, each answering with its own name: b1, b2, b3'

LB_SOCKET=$RUN_DIR/sluice.sock
LB_CONFIG=$RUN_DIR/sluice.toml
configuration >"$LB_CONFIG"
lb_start "$LB_CONFIG"
step sluiced "worker on CPU $WORKER_CPU, control on CPU $CONTROL_CPU, AF_PACKET ports wan and lan"

requests nat "$NAT_VIP4" "$NAT_VIP6"
requests dsr "$DSR_VIP4" "$DSR_VIP6"

balance=0
if figures=$(conservation); then
  step counters 'every packet accounted for:'
else
  step counters 'THE COUNTERS DO NOT ADD UP:'
  balance=1
fi
while read -r line; do note "$line"; done <<<"$figures"

for verb in status service stats; do say_sluicectl "$verb"; done
echo

if ((FAILURES || balance)); then
  printf '%slast lines of the log of sluiced:%s\n' "$C_DIM" "$C_OFF"
  lb_log
  ((FAILURES == 0)) || die "$FAILURES of 2,000 requests failed."
  die 'the packet counters do not add up.'
fi

if ((KEEP)); then
  run_keep
  cat <<TEXT
${C_GREEN}All 2,000 requests were answered.${C_OFF} Left running:

  talk to it      $SLUICECTL --socket $LB_SOCKET status
                  curl --unix-socket $LB_SOCKET http://sluice/v1/status
  configuration   $LB_CONFIG
  its log         $RUN_DIR/log/sluiced.log
  be the client   ip netns exec $(ns client) curl http://$NAT_VIP4/
                  ip netns exec $(ns client) curl 'http://[$DSR_VIP6]/'
  take one out    $SLUICECTL --socket $LB_SOCKET backend disable web-nat $(backend4 b1):8080
  watch packets   ip netns exec $(ns lb) tcpdump -ni wan

  stop            $0 --stop $RUN_ID
TEXT
else
  printf '%sAll 2,000 requests were answered%s, %s in all. Everything is cleaned up; --keep leaves it running.\n' \
    "$C_GREEN" "$C_OFF" "$(seconds_since "$START")"
fi
