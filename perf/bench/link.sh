#!/usr/bin/env bash
# Packets through sluiced on a virtio link between two processes, beside testpmd macswap at the same place.
set -euo pipefail
# shellcheck source=perf/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# The generator is on the vhost side and on the first CPU, the device under test on the virtio side and on the second:
#
#   sluice-perf load ── net_vhost ══ shared rings ══ net_virtio_user ── sluiced, or testpmd macswap
#
# The link has two stable states, whose rates differ by a factor of two: whoever works on a ring finds a backlog there, or
# meets the other side at every packet. Both contenders fall into either. A figure is the faster state's; the extra part
# of its line has the windows of both.
bench_begin link
hugepages_borrow 1536
[[ $HUGEPAGES == true ]] || die "no hugepages: $HUGEPAGES_WHY" 'The link is measured with hugepages only.'
command -v dpdk-testpmd >/dev/null || die 'dpdk-testpmd is not installed' 'Install it: apt-get install dpdk-dev'

ROUNDS=$(full_or_quick 3 1)
SECONDS_EACH=$(full_or_quick 2.5 1)
WINDOWS=$(full_or_quick 20 8)
FLOOD_SECONDS=$(full_or_quick 60 4)
# The link's fastest form: packed rings, used in order.
VIRTIO=queues=1,queue_size=1024,packed_vq=1,mrg_rxbuf=0,in_order=1
OUT=$RUN_DIR/link.jsonl
: >"$OUT"

# generator PLAN MODE ARGUMENT... -- DEVICE...: one run; its JSON object on standard output.
generator() {
  local plan=$1 mode=$2
  shift 2
  rm -f "$RUN_DIR/link"
  run timeout 150 "$SLUICE_PERF" load "$plan" --mode "$mode" --device "net_vhost0,iface=$RUN_DIR/link,queues=1" \
    --cpu "$CONTROL_CPU" --windows "$WINDOWS" "$@" 2>>"$RUN_DIR/log/link.log" ||
    { tail -n 15 "$RUN_DIR/log/link.log" >&2; die "no figure from $plan $mode; the last messages are above"; }
}

# macswap PLAN ARGUMENT...: around testpmd.
macswap() {
  local plan=$1
  shift
  generator "$plan" echo "$@" -- setpriv --pdeathsig KILL dpdk-testpmd --lcores "0@$CONTROL_CPU,1@$WORKER_CPU" \
    --main-lcore 0 --in-memory --single-file-segments --no-pci --no-telemetry "--file-prefix=sluice-$RUN_ID" \
    --vdev "net_virtio_user0,path=$RUN_DIR/link,$VIRTIO" -- \
    --forward-mode=macswap --auto-start --nb-cores=1 --burst=32 --total-num-mbufs=16384
}

# configure MODE FAMILY FLOWS [ARGUMENT...]: the configuration of the sluiced to come.
configure() {
  local mode=$1 family=$2 flows=$3
  shift 3
  "$SLUICE_PERF" config --mode "$mode" --family "$family" --flows "$flows" --socket "$LB_SOCKET" \
    --port-device "net_virtio_user0,path=$RUN_DIR/link,$VIRTIO" \
    --worker-cpu "$WORKER_CPU" --control-cpu "$CONTROL_CPU" "$@" >"$LB_CONFIG"
}

# sluice PLAN MODE ARGUMENT...: around sluiced, as configured.
sluice() {
  local plan=$1 mode=$2
  shift 2
  generator "$plan" "$mode" "$@" --socket "$LB_SOCKET" -- setpriv --pdeathsig KILL "$SLUICED" --config "$LB_CONFIG"
}

# keep NAME WHO: takes a run's object from standard input into the results so far.
keep() { jq -c --arg name "$1" --arg who "$2" '. + {name: $name, who: $who}' >>"$OUT"; }

# of NAME WHO EXPRESSION: a value of every such run, as a JSON array.
of() { jq -sc --arg name "$1" --arg who "$2" "[.[] | select(.name == \$name and .who == \$who) | $3]" "$OUT"; }

# The fastest state that at least a tenth of the windows were in.
# shellcheck disable=SC2016  # jq's variable
FASTEST='(.windows | length) as $n | [.states[] | select(.windows * 10 >= $n)] | last.packets_per_second // 0'
middle() { jq 'sort | if length == 0 then 0 else (.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2 end' <<<"$1"; }

# --- throughput, in interleaved pairs --------------------------------------------------------------------------------

# mode family flows target
CASES=('nat v4 1000 0.9' 'dsr v4 1000 0.9' 'nat v4 1000000 0.7' 'dsr v4 1000000 0.7' 'nat v6 1000 0.9')
[[ -n $QUICK ]] || CASES+=('nat v6 1000000 0.7' 'dsr v6 1000 0.9')
for tunnel in ipip gue gre; do
  configure "$tunnel" v4 1000
  if "$SLUICED" --config "$LB_CONFIG" --check >/dev/null 2>&1; then
    CASES+=("$tunnel v4 1000 0.8")
  else
    progress "not measured: this sluiced has no tunnel $tunnel"
  fi
done

for ((round = 1; round <= ROUNDS; round++)); do
  for case in "${CASES[@]}"; do
    read -r mode family flows _ <<<"$case"
    name=link/$mode/$family/$flows
    [[ $family == v6 ]] || name=link/$mode/$flows
    progress "round $round: $mode, $family, $flows flows"
    load=(--family "$family" --flows "$flows" --seconds "$SECONDS_EACH")
    configure "$mode" "$family" "$flows"
    # Each goes first in every other round.
    if ((round % 2)); then
      macswap throughput "${load[@]}" | keep "$name" macswap
      sluice throughput "$mode" "${load[@]}" | keep "$name" sluiced
    else
      sluice throughput "$mode" "${load[@]}" | keep "$name" sluiced
      macswap throughput "${load[@]}" | keep "$name" macswap
    fi
  done
done

for case in "${CASES[@]}"; do
  read -r mode family flows target <<<"$case"
  name=link/$mode/$family/$flows
  [[ $family == v6 ]] || name=link/$mode/$flows
  sluiced_samples=$(of "$name" sluiced "$FASTEST") macswap_samples=$(of "$name" macswap "$FASTEST")
  rate=$(middle "$sluiced_samples") reference=$(middle "$macswap_samples")
  ratios=$(jq -nc --argjson a "$sluiced_samples" --argjson b "$macswap_samples" '[$a, $b] | transpose | map(select(.[1] > 0) | .[0] / .[1])')
  windows=$(of "$name" sluiced '{states, windows_discarded}') reference_windows=$(of "$name" macswap '{states, windows_discarded}')
  wrong=$(of "$name" sluiced .totals.wrong_packets | jq add) lost=$(of "$name" sluiced .totals.loss_ratio | jq max)
  extra=$(jq -nc --argjson sluiced "$windows" --argjson macswap "$reference_windows" --argjson wrong "$wrong" \
    --argjson loss "$lost" '{sluiced: $sluiced, macswap: $macswap, wrong_packets: $wrong, loss_ratio_highest: $loss}')
  note='both in the faster state of the ring'
  ((wrong == 0)) || note="$wrong packets came back wrong"
  figure "$name" throughput_ratio "$(divide "$rate" "$reference")" ratio higher target="$target" \
    reference='testpmd macswap, packets/s' reference_value="$reference" samples="$ratios" note="$note" extra="$extra"
  figure "$name" throughput "$rate" packets/s higher samples="$sluiced_samples" reference='testpmd macswap' \
    reference_value="$reference"
  cycles=$(of "$name" sluiced '.device_cycles_per_packet // empty')
  figure "$name" device_cycles "$(middle "$cycles")" cycles/packet lower samples="$cycles" \
    reference='one worker, busy all the time at the rate of macswap' \
    reference_value="$(of "$name" sluiced .tsc_hertz | jq --argjson rate "$reference" 'first / $rate')" \
    note="receive and transmit included; by the daemon's own account of busy time"
done

# --- new connections -------------------------------------------------------------------------------------------------

for ((round = 1; round <= ROUNDS; round++)); do
  progress "round $round: whole conversations, then SYNs alone"
  configure nat v4 1000000
  sluice throughput nat --traffic conversations --flows 1000000 --conversations 200 --seconds "$SECONDS_EACH" |
    keep link/conversations sluiced
  sluice throughput nat --traffic syn --flows 1000000 --seconds "$SECONDS_EACH" | keep link/syn sluiced
done
samples=$(of link/conversations sluiced .conversations_per_second)
figure link/conversations conversations "$(middle "$samples")" conversations/s higher target=500000 samples="$samples" \
  note='TCP from SYN to last ACK, 10 packets, both directions through nat' \
  extra="$(of link/conversations sluiced '{states, windows_discarded, totals}' | jq -c '{sluiced: .}')"
samples=$(of link/syn sluiced "$FASTEST")
figure link/syn new_connections "$(middle "$samples")" connections/s higher target=3000000 samples="$samples" \
  note='every packet is a SYN from a client never seen before; the table is full' \
  extra="$(of link/syn sluiced '{states, windows_discarded}' | jq -c '{sluiced: .}')"

# --- loss-free rate and latency --------------------------------------------------------------------------------------

# A millionth may be lost: on a virtual machine no rate is free of the hypervisor's pauses.
search=(--loss 1e-6 --trial-seconds "$(full_or_quick 1 0.3)" --resolution "$(full_or_quick 0.03 0.1)" --flows 1000)
progress 'loss-free rates (RFC 2544)'
configure nat v4 1000
sluice search nat "${search[@]}" | keep link/loss-free sluiced
macswap search "${search[@]}" | keep link/loss-free macswap
base=$(middle "$(of link/loss-free sluiced .loss_free_packets_per_second)")
reference=$(middle "$(of link/loss-free macswap .loss_free_packets_per_second)")
figure link/nat/1000 loss_free_rate "$base" packets/s higher reference='testpmd macswap' reference_value="$reference" \
  note='at most a millionth lost' extra="$(of link/loss-free sluiced .trials | jq -c '{trials: first}')"

if (($(jq 'floor' <<<"$base") > 0)); then
  progress 'latency at 10, 50 and 90 %'
  latency=(--flows 1000 --rate "$base" --seconds "$(full_or_quick 3 0.5)")
  for ((round = 1; round <= ROUNDS; round++)); do
    macswap latency "${latency[@]}" | keep link/latency macswap
    sluice latency nat "${latency[@]}" | keep link/latency sluiced
  done
  for percent in 10 50 90; do
    point=".points[] | select((.share * 100 | round) == $percent)"
    for quantile in p50 p99 p999; do
      sluiced_samples=$(of link/latency sluiced "$point | .${quantile}_ns") macswap_samples=$(of link/latency macswap "$point | .${quantile}_ns")
      mine=$(middle "$sluiced_samples") reference=$(middle "$macswap_samples") target=''
      # Within so much of macswap's, at half the rate.
      case $percent$quantile in 50p50) target=2000 ;; 50p999) target=20000 ;; esac
      figure "link/latency/$percent" "$quantile" "$mine" ns lower samples="$sluiced_samples" reference='testpmd macswap' \
        reference_value="$reference" note="generator to generator, at $percent % of the loss-free rate of sluiced"
      [[ -z $target ]] ||
        figure "link/latency/$percent" "${quantile}_beyond_macswap" "$(jq -n "$mine - $reference")" ns lower \
          target="$target" reference='testpmd macswap' reference_value="$reference"
    done
  done
fi

# --- under attack ----------------------------------------------------------------------------------------------------

progress "a flood of SYNs from random sources for $FLOOD_SECONDS s, on a full table"
configure nat v4 1000 --max-connections 200000
sluice flood nat --flows 1000 --traffic tcp --seconds "$FLOOD_SECONDS" | keep link/flood sluiced
get() { of link/flood sluiced "$1" | jq -c first; }
extra=$(get '{before, filling, during, after, highest_packets_per_second, device}')
figure link/flood established_rate_ratio "$(get .established_rate_ratio)" ratio higher target=0.5 \
  reference='established packets/s without the flood' reference_value="$(get .before.established_packets_per_second)" \
  note='established flows at a steady rate, and SYNs as fast as the link takes them' extra="$extra"
figure link/flood established_loss_ratio "$(get .during.established_loss_ratio)" ratio lower target=0.00001 \
  note='of what the link took' reference='without the flood' reference_value="$(get .before.established_loss_ratio)"
figure link/flood flood_rate "$(get .during.flood_packets_per_second)" packets/s higher
figure link/flood memory_growth "$(get '.device_memory_after_bytes - .device_memory_before_bytes')" bytes lower target=1048576
figure link/flood recovery "$(get .recovery_millis)" ms lower target=1000
