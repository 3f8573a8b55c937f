#!/usr/bin/env bash
# What a worker without packets uses of its core, and what the first packet after silence waits.
set -euo pipefail
# shellcheck source=perf/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=scripts/lib/topology.sh
source "$SLUICE_ROOT/scripts/lib/topology.sh"

# AF_PACKET ports on veth, as on a laptop, and nat between a client and a server that echoes datagrams:
#
#   client ── veth ── sluiced ── veth ── bridge ── echo server
bench_begin idle
hugepages_borrow 256
IDLE_SECONDS=$(full_or_quick 10 3)
COUNT=$(full_or_quick 300 50)

# Everything but the worker stays on the first CPU.
taskset -cp "$CONTROL_CPU" $$ >/dev/null
# The two CPUs stay those that were found before.
conf_cpus() { :; }
topology_up two-arm
for b in "${BACKENDS[@]}"; do
  daemon_start "echo-$b" ip netns exec "$(ns "$b")" python3 "$SLUICE_ROOT/scripts/net/udp_echo.py" "$b" 5300 0.0.0.0
done

# worker_us PID: processor time of the worker's thread so far, in microseconds.
worker_us() {
  local task
  for task in /proc/"$1"/task/*; do
    if [[ $(<"$task/comm") == worker-* ]]; then awk '{ printf "%d\n", $1 / 1000 }' "$task/schedstat"; fi
  done
}

# sluice POLL: sluiced in that mode.
sluice() {
  {
    conf_runtime | sed "1a poll = \"$1\""
    conf_ports two-arm
    # shellcheck disable=SC2046  # one word per backend
    conf_service echo "$NAT_VIP4" 53 udp nat maglev $(conf_backends 4 5300)
  } >"$LB_CONFIG"
  daemon_start sluiced taskset -c "$CONTROL_CPU,$WORKER_CPU" ip netns exec "$(ns lb)" "$SLUICED" --config "$LB_CONFIG"
  LB_PID=$DAEMON_PID
  if ! wait_until 60 lb_answers_or_gone || pid_gone "$LB_PID"; then
    lb_log >&2
    die 'sluiced did not start; its log is above'
  fi
  sleep 2
}

# first_packets: how long they take, as JSON.
first_packets() { in_ns client timeout 120 python3 "$PERF_DIR/bench/first_packet.py" "$NAT_VIP4" 53 "$COUNT" 20; }

declare -A P50=() P90=()
for poll in busy adaptive busy adaptive; do
  progress "$poll: the first packet after 20 ms of silence, $COUNT times"
  sluice "$poll"
  if [[ $poll == adaptive ]]; then
    before=$(worker_us "$LB_PID")
    sleep "$IDLE_SECONDS"
    used=$(($(worker_us "$LB_PID") - before))
    USED+=("$(awk -v u="$used" -v s="$IDLE_SECONDS" 'BEGIN { print u / s / 1e6 }')")
  fi
  got=$(first_packets)
  P50[$poll]+=" $(jq .p50_us <<<"$got")"
  P90[$poll]+=" $(jq .p90_us <<<"$got")"
  [[ $(jq .lost <<<"$got") == 0 ]] || warn "$poll: $(jq .lost <<<"$got") datagrams without an answer"
  lb_stop
done

figure idle/adaptive cpu_of_an_idle_worker "$(median "${USED[@]}")" cores lower target=0.05 \
  samples="$(array "${USED[@]}")" reference='poll = "busy"' reference_value=1
for p in 50 90; do
  declare -n of=P$p
  # shellcheck disable=SC2086  # one word per run
  figure idle/adaptive "first_packet_later_by_p$p" \
    "$(awk -v a="$(median ${of[adaptive]})" -v b="$(median ${of[busy]})" 'BEGIN { print a - b }')" us lower target=50 \
    reference='round trip with poll = "busy"' reference_value="$(median ${of[busy]})" \
    note='from client to echo server and back; only the request finds the worker asleep'
done
