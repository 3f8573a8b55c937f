#!/usr/bin/env bash
# Every benchmark of Sluice, in one command: see usage below.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: perf/run.sh [--only PART]... [--quick] [--list] [--help]

Measures Sluice beside its references and writes, into perf/results/DATE-COMMIT/, results.jsonl and results.json (every
figure, the machine), table.md (every figure beside its target and its reference) and charts. Prints the table.
Run it as root, with two CPUs and nothing else running: samples in which something else took a core are discarded or marked.

  --only PART   one part of the matrix (may be given again)
  --quick       few and short samples, in minutes: to see that it works, not to be quoted
  --list        print the parts and stop

SLUICE_BIN=DIR measures sluiced, sluicectl and sluice-perf from DIR in place of building them.
The exit status is 0 if everything was measured, whether or not the targets are met.
TEXT
}

PERF=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=perf/lib.sh
source "$PERF/lib.sh"

# Seconds that a part may take: all, and with --quick. The order is the order of the table.
PARTS=('pipeline 300 90' 'link 1200 240' 'scaling 120 30' 'tcp 400 80' 'idle 120 40')

ONLY=() QUICK='' LIST=0
while (($#)); do
  case $1 in
    --only)
      [[ -n ${2:-} ]] || { usage >&2; exit 2; }
      ONLY+=("$2")
      shift
      ;;
    --quick) QUICK=1 ;;
    --list) LIST=1 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
export QUICK

# there NAME: whether it is a part that can run.
there() { [[ -x $PERF/bench/$1.sh ]]; }

SELECTED=()
for part in "${PARTS[@]}"; do
  name=${part%% *}
  there "$name" || continue
  if ((${#ONLY[@]} == 0)) || [[ " ${ONLY[*]} " == *" $name "* ]]; then SELECTED+=("$part"); fi
done
for name in "${ONLY[@]}"; do
  there "$name" || die "there is no part $name" 'perf/run.sh --list shows them all.'
done
if ((LIST)); then
  for part in "${SELECTED[@]}"; do
    name=${part%% *}
    printf '%-10s %s\n' "$name" "$(sed -n '2s/^# //p' "$PERF/bench/$name.sh")"
  done
  exit 0
fi

require_root "$0"
ensure_packages "${SLUICE_BUILD_PACKAGES[@]}" "${SLUICE_NET_PACKAGES[@]}" "${SLUICE_PERF_PACKAGES[@]}"
build_release
SLUICE_BIN=$(sluice_bin_dir)
export SLUICE_BIN

# --- where it was measured -------------------------------------------------------------------------------------------

commit() {
  local id
  id=$(git -C "$SLUICE_ROOT" rev-parse --short=10 HEAD 2>/dev/null) || { echo unknown; return; }
  [[ -z $(git -C "$SLUICE_ROOT" status --porcelain --untracked-files=no) ]] || id+=-modified
  echo "$id"
}

cpuinfo() { sed -n "s/^$1[[:space:]]*: //p" /proc/cpuinfo | head -n 1; }

machine() {
  # shellcheck disable=SC2016
  jq -n --arg commit "$COMMIT" --arg date "$(date -u +%Y-%m-%dT%H:%M:%SZ)" --argjson quick "${QUICK:-0}" \
    --arg cpu_model "$(cpuinfo 'model name')" --arg cpu_family_model "$(cpuinfo 'cpu family')/$(cpuinfo model)" \
    --argjson cores "$(nproc)" --argjson tsc_mhz "$(cpuinfo 'cpu MHz')" --arg l3_cache "$(cpuinfo 'cache size')" \
    --arg hypervisor "$(lscpu | sed -n 's/^Hypervisor vendor: *//p')" --arg kernel "$(uname -r)" \
    --arg dpdk "$(pkg-config --modversion libdpdk 2>/dev/null || echo unknown)" \
    --arg rustc "$(cd "$SLUICE_ROOT" && rustc --version 2>/dev/null || echo unknown)" \
    --argjson memory_mib "$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)" \
    '$ARGS.named | .quick = (.quick == 1)'
}

COMMIT=$(commit)
DIR=$PERF/results/$(date -u +%Y%m%d)-$COMMIT${QUICK:+-quick}
mkdir -p "$DIR"
RESULTS=$DIR/results.jsonl
export RESULTS SLUICE_PERF_TOP=$$
# The whole matrix starts anew; a part alone replaces its own figures.
rm -f "$DIR"/*.svg
((${#ONLY[@]})) || rm -f "$RESULTS"
touch "$RESULTS"
machine >"$DIR/machine.json"

quiet_begin
sleep 1
quiet_end 1 || warn 'something else is running: figures will be worse than they could be, and some samples are discarded'

# --- measure ---------------------------------------------------------------------------------------------------------

START=$SECONDS FAILED=()
for part in "${SELECTED[@]}"; do
  read -r name full quick <<<"$part"
  began=$SECONDS seconds=$(full_or_quick "$full" "$quick")
  jq -c --arg part "$name" 'select(.benchmark | split("/")[0] != $part)' "$RESULTS" >"$RESULTS.tmp"
  mv "$RESULTS.tmp" "$RESULTS"
  step "$name" "at most $((seconds / 60))m$((seconds % 60))s"
  status=0
  # Its own TERM lets it clean up; only one that hangs in that is killed.
  run timeout --kill-after=60 "$seconds" "$PERF/bench/$name.sh" || status=$?
  if ((status)); then
    FAILED+=("$name")
    why="it ended with status $status"
    ((status != 124)) || why="it was not over within $seconds seconds"
    warn "$name: $why; what it measured until then is kept"
    figure "$name" completed 0 runs higher target=1 note="$why"
  fi
  note "$name took $(seconds_since "$began")"
done

"$SLUICE_BIN/sluice-perf" report "$DIR"
printf '\n'
cat "$DIR/table.md"
printf '\n%s in all; written to %s\n' "$(seconds_since "$START")" "$DIR"
if ((${#FAILED[@]})); then
  printf 'not completed: %s\n' "${FAILED[*]}"
  exit 1
fi
