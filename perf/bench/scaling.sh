#!/usr/bin/env bash
# What a second core adds, what a hand-off costs, and a model of up to 64 workers.
set -euo pipefail
# shellcheck source=perf/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

bench_begin scaling
hugepages_borrow 512
LARGE=()
[[ $HUGEPAGES != true ]] || LARGE=(--large-pages)

# few flows in the first-level caches of their own, and as many as share the last cache and the memory.
for flows in 10000 $(full_or_quick 500000 ''); do
  progress "$flows flows a worker on CPUs $CONTROL_CPU and $WORKER_CPU"
  run timeout 240 "$SLUICE_PERF" scaling --flows "$flows" --cpus "$CONTROL_CPU,$WORKER_CPU" \
    --rounds "$(full_or_quick 8 3)" --window-ms "$(full_or_quick 300 150)" "${LARGE[@]}" >"$RUN_DIR/scaling.json"
  get() { jq -c "$1" "$RUN_DIR/scaling.json"; }
  note=''
  [[ $(get .pipelines.disturbed) == false ]] || note='a core was taken by something else in every round'
  figure "scaling/two-workers/$flows" speedup "$(get .pipelines.speedup_median)" ratio higher target=1.9 \
    reference='one worker, packets/s' reference_value="$(get '.pipelines.one_packets_per_s | add / length')" \
    samples="$(get .pipelines.speedup)" note="$note" extra="{\"discarded_rounds\":$(get .pipelines.discarded)}"
  figure "scaling/two-workers/$flows" throughput "$(get '.pipelines.all_packets_per_s | add / length')" packets/s higher \
    reference='one worker' reference_value="$(get '.pipelines.one_packets_per_s | add / length')" \
    samples="$(get .pipelines.all_packets_per_s)"
  figure "scaling/hand-off/$flows" own_packet "$(get .handoff.own_cycles)" cycles/packet lower \
    samples="$(get '.handoff.measured[0].samples')"
  figure "scaling/hand-off/$flows" handed_over_costs_more "$(get .handoff.handoff_cycles)" cycles/packet lower \
    note='both workers together, beyond what a packet costs its own worker; without any port' \
    extra="$(get '{by_share: [.handoff.measured[] | {wrong_ratio, cycles_per_packet}]}')"
done

# The model, from the costs with most flows.
get() { jq -c "$1" "$RUN_DIR/scaling.json"; }
# shellcheck disable=SC2016
figure scaling/model speedup_of_64_workers_steered "$(get '.curve[-1].steered_speedup_simulated')" workers higher \
  reference='spread by 5-tuple' reference_value="$(get '.curve[-1].spread_speedup_simulated')" \
  note='steered: the NIC hashes the client alone; spread: it hashes the 5-tuple, and 1 - 1/W of the packets are handed over; memory and cache shared by all cores are not in the model' \
  extra="$(get '. as $all | {points: .curve, curves: {x: "workers", y: "throughput over that of one worker", series: [
    ["ideal", .workers], ["steered by client: formula", "steered_speedup"], ["steered by client: simulated", "steered_speedup_simulated"],
    ["spread by 5-tuple: formula", "spread_speedup"], ["spread by 5-tuple: simulated", "spread_speedup_simulated"]
    ] | map({name: .[0], key: (.[1] // "workers")}) | map(. as $s | {name, points: [$all.curve[] | [.workers, .[$s.key]]]})}}')"
# shellcheck disable=SC2016
figure scaling/model handoff_share_of_64_workers_spread "$(get '.curve[-1].spread_handoff_ratio_simulated')" ratio lower \
  reference='formula 1 - 1/W' reference_value="$(get '.curve[-1].spread_handoff_ratio')" \
  extra="$(get '. as $all | {curves: {x: "workers", y: "share of packets handed over", series: [
    ["spread by 5-tuple: formula", "spread_handoff_ratio"], ["spread by 5-tuple: simulated", "spread_handoff_ratio_simulated"]
    ] | map(. as $s | {name: $s[0], points: [$all.curve[] | [.workers, .[$s[1]]]]})}}')"
