#!/usr/bin/env bash
# Two revisions of Sluice, measured in turns: see usage below.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: perf/compare.sh [--pairs N] [--tolerance PERCENT] [--link] REV1 [REV2]

Builds both revisions (REV2 is HEAD by default) in worktrees of their own, runs the pipeline benchmark of each in pairs that
swap order, and prints what REV2 costs over REV1, with the spread over the pairs. Less than 1 is faster.

  --pairs N            pairs measured of each case (default 5)
  --tolerance PERCENT  how much slower REV2 may be (default 3)
  --link               also forward over the vhost link, where both revisions have that benchmark (as root)

Exit status: 0 if no case is slower than tolerated, 1 if one is, 2 for wrong usage, 3 if a revision does not build or run.
TEXT
}

PERF=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=perf/lib.sh
source "$PERF/lib.sh"

PAIRS=5 TOLERANCE=3 LINK=0 REVS=()
while (($#)); do
  case $1 in
    --pairs) PAIRS=${2:-}; shift ;;
    --tolerance) TOLERANCE=${2:-}; shift ;;
    --link) LINK=1 ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) REVS+=("$1") ;;
  esac
  (($#)) && shift
done
[[ $PAIRS =~ ^[1-9][0-9]*$ && $TOLERANCE =~ ^[0-9]+([.][0-9]+)?$ && ${#REVS[@]} -ge 1 && ${#REVS[@]} -le 2 ]] ||
  { usage >&2; exit 2; }
[[ ${#REVS[@]} == 2 ]] || REVS+=(HEAD)

# broken TEXT...: as die, with the status for what could not be compared.
broken() {
  printf '%serror:%s %s\n' "$C_RED" "$C_OFF" "$1" >&2
  exit 3
}

IDS=()
for rev in "${REVS[@]}"; do
  IDS+=("$(git -C "$SLUICE_ROOT" rev-parse --verify --quiet "$rev^{commit}")") || { usage >&2; die "no revision $rev"; }
done
ensure_packages "${SLUICE_BUILD_PACKAGES[@]}" 'jq|jq'
require_cargo
conf_cpus

# --- build -----------------------------------------------------------------------------------------------------------

WORK=$(mktemp -d)
remove_work() {
  local n
  for n in 1 2; do git -C "$SLUICE_ROOT" worktree remove --force "$WORK/$n" 2>/dev/null; done
  rm -rf "$WORK"
  git -C "$SLUICE_ROOT" worktree prune
}
on_exit remove_work

PACKAGES=(-p perf)
((LINK == 0)) || PACKAGES+=(-p dataplane -p ctl)
for n in 1 2; do
  id=${IDS[n - 1]} began=$SECONDS
  step build "${REVS[n - 1]}, ${id:0:10}"
  git -C "$SLUICE_ROOT" worktree add --quiet --detach "$WORK/$n" "$id"
  # One target folder for both: they share what they depend on, and the programs are taken away in between.
  if ! run env -C "$WORK/$n" CARGO_TARGET_DIR="$WORK/target" cargo build --release --locked --color never "${PACKAGES[@]}" \
    >"$WORK/build.log" 2>&1; then
    tail -n 20 "$WORK/build.log" >&2
    broken "${REVS[n - 1]} does not build"
  fi
  mkdir "$WORK/bin$n"
  for program in sluice-perf sluiced sluicectl; do
    [[ ! -x $WORK/target/release/$program ]] || mv "$WORK/target/release/$program" "$WORK/bin$n/"
  done
  note "in $(seconds_since "$began")"
done

# --- measure ---------------------------------------------------------------------------------------------------------

# one N CASE: sets COST to the cycles a packet of that revision.
one() {
  local mode family flows
  read -r _ mode family flows <<<"$2"
  run timeout 120 "$WORK/bin$1/sluice-perf" pipeline --mode "$mode" --family "$family" --flows "$flows" \
    --cpu "$WORKER_CPU" --packets 2000000 --runs 3 >"$WORK/out.json" || broken "${REVS[$1 - 1]} does not run: $2"
  COST=$(jq .both.median "$WORK/out.json")
}

# link N: sets COSTS[CASE] to nanoseconds a packet, for everything that the revision's own benchmark of the link counts in
# packets a second.
link() {
  rm -f "$WORK/link.jsonl"
  run timeout 300 env QUICK=1 RESULTS="$WORK/link.jsonl" SLUICE_BIN="$WORK/bin$1" "$WORK/$1/perf/bench/link.sh" ||
    broken "${REVS[$1 - 1]} does not run: link"
  local case cost
  COSTS=()
  while read -r case cost; do COSTS[$case]=$cost; done < <(jq -r 'select(.unit == "packets/s" and (.value // 0) > 0) |
    "\(.benchmark)/\(.figure) \(1e9 / .value)"' "$WORK/link.jsonl")
}

declare -A FIRST SECOND RATIOS COSTS
LINKS=() PIPELINE=('pipeline nat v4 1000' 'pipeline nat v6 1000' 'pipeline dsr v4 1000' 'pipeline nat v4 1000000')

# keep CASE COST1 COST2
keep() { FIRST[$1]+="$2 " SECOND[$1]+="$3 " RATIOS[$1]+="$(divide "$3" "$2") "; }

for ((pair = 1; pair <= PAIRS; pair++)); do
  # In every other pair the second goes first.
  order=(1 2)
  ((pair % 2)) || order=(2 1)
  for case in "${PIPELINE[@]}"; do
    step "pair $pair" "$case"
    declare -A cost=()
    for n in "${order[@]}"; do
      one "$n" "$case"
      cost[$n]=$COST
    done
    keep "$case" "${cost[1]}" "${cost[2]}"
  done
  if ((LINK)); then
    step "pair $pair" link
    declare -A link1=() link2=()
    for n in "${order[@]}"; do
      link "$n"
      for case in "${!COSTS[@]}"; do
        if ((n == 1)); then link1[$case]=${COSTS[$case]}; else link2[$case]=${COSTS[$case]}; fi
      done
    done
    for case in "${!link1[@]}"; do
      [[ -n ${link2[$case]:-} ]] || continue
      [[ -n ${FIRST[$case]:-} ]] || LINKS+=("$case")
      keep "$case" "${link1[$case]}" "${link2[$case]}"
    done
  fi
done
CASES=("${PIPELINE[@]}" "${LINKS[@]}")

# --- compare ---------------------------------------------------------------------------------------------------------

printf '\ncost of a packet (cycles; on the link nanoseconds), medians of %d pairs\n' "$PAIRS"
printf '%-46s %12s %12s %8s  %s\n' '' "${REVS[0]:0:12}" "${REVS[1]:0:12}" ratio 'least and most'
SLOWER=0
for case in "${CASES[@]}"; do
  # shellcheck disable=SC2086  # numbers, one word each
  {
    ratio=$(median ${RATIOS[$case]})
    first=$(median ${FIRST[$case]}) second=$(median ${SECOND[$case]})
    spread=$(printf '%s\n' ${RATIOS[$case]} | sort -g | sed -n '1p;$p' | paste -sd ' ')
  }
  verdict=''
  if awk -v r="$ratio" -v t="$TOLERANCE" 'BEGIN { exit !(r > 1 + t / 100) }'; then
    verdict=" ${C_RED}slower$C_OFF" SLOWER=$((SLOWER + 1))
  fi
  printf '%-46s %12.1f %12.1f %8.3f  %s%s\n' "$case" "$first" "$second" "$ratio" "$spread" "$verdict"
done
if ((SLOWER)); then
  printf '%d of %d cases are more than %s %% slower\n' "$SLOWER" "${#CASES[@]}" "$TOLERANCE"
  exit 1
fi
