# shellcheck shell=bash
# What every benchmark shares. A benchmark under perf/bench/ sources this, names itself with bench_begin, and says each
# figure with `figure`; it is a program of its own: sudo perf/bench/pipeline.sh
#
#   RESULTS=FILE     append the figures there; without, they go to standard output
#   QUICK=1          few and short samples: to see that it works, not to be quoted
#   SLUICE_BIN=DIR   use sluiced, sluicectl and sluice-perf from DIR rather than target/release

set -euo pipefail
PERF_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/common.sh
source "$PERF_DIR/../scripts/lib/common.sh"
# shellcheck source=scripts/lib/packages.sh
source "$PERF_DIR/../scripts/lib/packages.sh"
# shellcheck source=scripts/lib/hugepages.sh
source "$PERF_DIR/../scripts/lib/hugepages.sh"
# shellcheck source=scripts/lib/run.sh
source "$PERF_DIR/../scripts/lib/run.sh"
# shellcheck source=scripts/lib/netns.sh
source "$PERF_DIR/../scripts/lib/netns.sh"
# shellcheck source=scripts/lib/sluice.sh
source "$PERF_DIR/../scripts/lib/sluice.sh"

RESULTS=${RESULTS:-/dev/stdout}
QUICK=${QUICK:-}

# bench_begin NAME: root, an own run, the binaries. Progress goes to standard error, so that figures alone are on
# standard output.
bench_begin() {
  require_root "$0"
  run_open
  sluice_find
  # shellcheck disable=SC2034  # for the benchmarks
  SLUICE_PERF=$(sluice_bin_dir)/sluice-perf
  [[ -x $SLUICE_PERF ]] || die "no sluice-perf in $(sluice_bin_dir)" "Build it: cargo build --release"
  # shellcheck disable=SC2034
  LB_SOCKET=$RUN_DIR/sluice.sock LB_CONFIG=$RUN_DIR/sluice.toml LB_PID=''
  # Set by conf_cpus: everything but the worker on the first CPU, the worker alone on the second.
  conf_cpus
  [[ $WORKER_CPU != "$CONTROL_CPU" ]] || die "$1 needs two CPUs" "This process may run on one only; see taskset(1)."
}

# progress TEXT: one line of what is being measured.
progress() { printf '    %s\n' "$1" >&2; }

# full_or_quick FULL QUICK: the first, or with QUICK=1 the second.
full_or_quick() { if [[ -n $QUICK ]]; then echo "$2"; else echo "$1"; fi; }

# figure BENCHMARK FIGURE VALUE UNIT higher|lower [KEY=VALUE]...: one line of the results. Keys: target, reference,
# reference_value, samples (a JSON array), note, extra (a JSON object). An empty VALUE says that it was not measured, and
# an empty one of a key that there is none.
figure() {
  local benchmark=$1 name=$2 value=$3 unit=$4 direction=$5 pair
  local -a args=()
  shift 5
  for pair in "$@"; do
    [[ -n ${pair#*=} ]] || continue
    case ${pair%%=*} in
      target | reference_value | samples | extra) args+=(--argjson "${pair%%=*}" "${pair#*=}") ;;
      reference | note) args+=(--arg "${pair%%=*}" "${pair#*=}") ;;
      *) die "figure has no key ${pair%%=*}" ;;
    esac
  done
  # shellcheck disable=SC2016
  jq -nc --arg benchmark "$benchmark" --arg figure "$name" --argjson value "${value:-null}" --arg unit "$unit" \
    --arg direction "$direction" "${args[@]}" '$ARGS.named' >>"$RESULTS"
}

# median NUMBER...: the middle one; of an even number, the mean of the two in the middle.
median() {
  (($#)) || return 0
  printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# array NUMBER...: the numbers as a JSON array.
array() {
  local IFS=,
  echo "[$*]"
}

# divide A B: A/B with six digits; nothing if there is no B.
divide() { awk -v a="$1" -v b="$2" 'BEGIN { if (b + 0 != 0) printf "%.6g\n", a / b }'; }

# --- whether anything else ran ---------------------------------------------------------------------------------------

# others_ms: processor time in ms, so far, of every living process that is neither a descendant of this run's scripts nor
# the kernel's own, plus what the hypervisor took from all CPUs.
others_ms() {
  cat /proc/[0-9]*/stat 2>/dev/null | awk -v top="${SLUICE_PERF_TOP:-$$}" -v hz="$(getconf CLK_TCK)" '
    {
      pid = $1
      sub(/^.*\) /, "")
      parent[pid] = $2
      used[pid] = $12 + $13
    }
    END {
      while ((getline line <"/proc/stat") > 0) if (split(line, cpu, " ") > 8 && cpu[1] == "cpu") sum = cpu[9]
      for (pid in parent) {
        for (p = pid; p > 2 && p != top; p = parent[p]);
        # Init and the kernel threads, which do our own network work, are nobody else.
        if (p != top && p != 2 && pid != 1) sum += used[pid]
      }
      printf "%d\n", sum * 1000 / hz
    }'
}

# quiet_begin, and quiet_end SECONDS: whether others took less than 2 % of a core meanwhile.
quiet_begin() { OTHERS_BEFORE=$(others_ms); }
quiet_end() {
  local taken=$(($(others_ms) - OTHERS_BEFORE))
  ((taken <= $1 * 20))
}
