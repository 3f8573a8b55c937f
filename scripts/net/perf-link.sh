#!/usr/bin/env bash
# The load generator of sluice-perf around sluiced, on a virtio link between two processes: every packet comes back, right.
# It says nothing about speed; perf/bench/link.sh does.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

test_begin 'sluice-perf load: every packet verified'
PERF=$(dirname "$SLUICED")/sluice-perf
[[ -x $PERF ]] || die "no sluice-perf in ${PERF%/*}" 'Build it: cargo build --release'
hugepages_borrow 768
conf_cpus
PAGES=()
[[ $HUGEPAGES == true ]] || PAGES=(--no-hugepages)

# verify MODE FAMILY ARMS ARGUMENT...: as once does it, up to three times: a core that something else takes away in the
# middle overflows the link's ring, which says nothing about either program.
verify() {
  local try
  for try in 1 2 3; do
    if once "$@"; then return; fi
    note "attempt $try failed"
  done
  return 1
}

# once MODE FAMILY ARMS ARGUMENT...: sluiced with a configuration for it, and the generator around it.
once() {
  local mode=$1 family=$2 arms=$3 n listen=() connect=()
  shift 3
  for ((n = 0; n < arms; n++)); do
    listen+=(--device "net_vhost$n,iface=$RUN_DIR/link$n,queues=1")
    connect+=(--port-device "net_virtio_user$n,path=$RUN_DIR/link$n,queues=1")
  done
  rm -f "$RUN_DIR"/link*
  "$PERF" config --mode "$mode" --family "$family" --flows 500 "${connect[@]}" --socket "$LB_SOCKET" \
    --hugepages "$HUGEPAGES" --worker-cpu "$WORKER_CPU" --control-cpu "$CONTROL_CPU" >"$LB_CONFIG"
  run timeout 120 "$PERF" load verify --mode "$mode" --family "$family" --flows 500 "${listen[@]}" "${PAGES[@]}" \
    --cpu "$CONTROL_CPU" --socket "$LB_SOCKET" --prime-rate 50000 --seconds 0.5 "$@" -- \
    setpriv --pdeathsig KILL "$SLUICED" --config "$LB_CONFIG"
}

for family in v4 v6; do
  check "nat, $family, requests and answers" verify nat $family 1
  check "dsr, $family, requests" verify dsr $family 1
done
check 'nat, two ports' verify nat v4 2
check 'full-nat, requests and answers' verify full-nat v4 1
for tunnel in ipip gue gre; do
  check "dsr through $tunnel" verify $tunnel v4 1
done
check 'dsr through gue, v6' verify gue v6 1
check 'nat, connections of TCP' verify nat v4 1 --traffic tcp
check 'nat, whole conversations' verify nat v4 1 --traffic conversations
check 'dsr, whole conversations' verify dsr v6 1 --traffic conversations
check 'nat, every packet a new connection' verify nat v4 1 --traffic syn
check 'nat, frames of all sizes' verify nat v4 1 --sizes imix --order zipf
test_end
