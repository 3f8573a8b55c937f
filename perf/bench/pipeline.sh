#!/usr/bin/env bash
# Cycles a packet of the pipeline alone: from received packet to verdict, without any port. The configurations take turns,
# so that a slow minute of the machine is nobody's alone.
set -euo pipefail
# shellcheck source=perf/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

bench_begin pipeline
ROUNDS=$(full_or_quick 3 1)
RUNS=$(full_or_quick 3 2)
PACKETS=$(full_or_quick 4000000 1000000)

# mode family flows, the small ones first.
CASES=('nat v4 1000' 'nat v6 1000' 'dsr v4 1000' 'nat v4 1000000' 'nat v6 1000000' 'dsr v4 1000000' 'nat v4 10000000')
OUT=$RUN_DIR/pipeline.jsonl

# Bytes of the largest tables: 10 million connections of each family.
hugepages_borrow "$(full_or_quick 3000 3000)"
LARGE=()
if [[ $HUGEPAGES == true ]]; then LARGE=(--large-pages); else progress "no large pages: $HUGEPAGES_WHY"; fi

for ((round = 1; round <= ROUNDS; round++)); do
  for case in "${CASES[@]}"; do
    read -r mode family flows <<<"$case"
    # Ten million are slow to make.
    ((round == 1 || flows < 10000000)) || continue
    progress "round $round: $mode, $family, $flows flows"
    run timeout 120 "$SLUICE_PERF" pipeline --mode "$mode" --family "$family" --flows "$flows" --cpu "$WORKER_CPU" \
      --packets "$PACKETS" --runs "$RUNS" "${LARGE[@]}" >>"$OUT"
  done
done

# of CASE EXPRESSION: the values over all rounds, as a JSON array.
of() {
  local mode family flows
  read -r mode family flows <<<"$1"
  jq -sc --arg mode "$mode" --arg family "$family" --argjson flows "$flows" \
    "[.[] | select(.mode == \$mode and .family == \$family and .flows == \$flows) | $2]" "$OUT"
}
middle() { jq 'sort | (.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2' <<<"$1"; }

# say CASE FIGURE SAMPLES [KEY=VALUE]...
say() {
  local name=$2 samples=$3 mode family flows
  read -r mode family flows <<<"$1"
  shift 3
  figure "pipeline/$mode/$family/$flows" "$name" "$(middle "$samples")" cycles/packet lower samples="$samples" "$@"
}

# What the stages of nat cost, as far as a clock between them can tell.
for flows in 1000 1000000; do
  case="nat v4 $flows"
  for stage in parse forward; do say "$case" "stage_$stage" "$(of "$case" ".stages.$stage")"; done
done

declare -A TARGETS=(['nat v4 1000']=50 ['nat v4 1000000']=95 ['nat v4 10000000']=110)
for case in "${CASES[@]}"; do
  note='' disturbed=$(of "$case" 'select(.disturbed)' | jq length)
  ((disturbed == 0)) || note='the core was taken by something else in some of the samples'
  pages="{\"large_pages\":$HUGEPAGES,\"discarded_runs\":$(of "$case" '.forward.discarded + .both.discarded' | jq add)}"
  say "$case" both "$(of "$case" '.both.samples[]')" target="${TARGETS[$case]:-}" note="$note" extra="$pages"
  if [[ $case == *' v4 1000000' && $case == nat* ]]; then
    say "$case" create "$(of "$case" .create)" target=200
  elif [[ $case == nat* && $case != *' 1000' ]]; then
    say "$case" create "$(of "$case" .create)"
  fi
done
for flows in 1000 1000000; do
  v4=$(middle "$(of "nat v4 $flows" '.both.samples[]')") v6=$(middle "$(of "nat v6 $flows" '.both.samples[]')")
  figure "pipeline/nat/v6/$flows" v6_over_v4 "$(divide "$v6" "$v4")" ratio lower target=1.4 \
    reference='the same over IPv4' reference_value="$v4"
done
