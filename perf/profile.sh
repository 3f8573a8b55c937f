#!/usr/bin/env bash
# Instructions a packet by source file, counted by callgrind: see usage below.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: perf/profile.sh [PIPELINE-ARGUMENT]...

Runs the pipeline benchmark twice under callgrind, with few and with many packets, and prints what each source file of the
packet path adds for one packet. Arguments are those of "sluice-perf pipeline", such as --family v6 or --mode dsr.
Counts are exact and do not mind what else the machine does. SLUICE_BIN=DIR takes sluice-perf from DIR.
TEXT
}

case ${1:-} in -h | --help) usage; exit 0 ;; esac
PERF=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=perf/lib.sh
source "$PERF/lib.sh"
for program in valgrind jq; do
  command -v $program >/dev/null || die "$program is not installed" "Install it: apt-get install $program"
done
SLUICE_PERF=$(sluice_bin_dir)/sluice-perf
[[ -x $SLUICE_PERF ]] || die "no sluice-perf in $(sluice_bin_dir)" 'Build it: cargo build --release'
temp_file
OUT=$TEMP_FILE
FEW=50000 MANY=250000

# count PACKETS ARGUMENT...: the packets that were processed, with "packets" behind; then the instructions of each file of
# the library's, setup included.
count() {
  local packets=$1
  shift
  valgrind --tool=callgrind --callgrind-out-file="$OUT" "$SLUICE_PERF" pipeline --flows 1000 --runs 1 --mhz 1000 \
    --packets "$packets" "$@" 2>/dev/null |
    # Every measurement takes whole batches of 512, and a disturbed one is made again.
    jq -r --argjson packets "$packets" \
      '"\(([.forward, .reply, .both] | map(select(.) | (.samples | length) + .discarded) | add) *
        (($packets + 511) / 512 | floor) * 512) packets"'
  callgrind_annotate --auto=no --threshold=100 "$OUT" 2>/dev/null |
    sed -n 's/^ *\([0-9,]*\) *([^)]*)  *\([^: ]*\):\(.*\)$/\1 \2 \3/p' |
    awk '{ gsub(",", "", $1); file = $2; ours = sub(/^(.*\/)?dataplane\/src\//, "", file); sub(/.*\/library\/.*/, "inlined from the standard library", file); sub(/.*\/registry\/.*/, "inlined from arrayvec", file)
           if ($0 ~ /sluice_perf::traffic|Bench::fill|Bench::batch/) next
           # What is inlined into the loop of the benchmark itself counts too; the frames that it writes do not.
           if (ours || $0 ~ /dataplane::|Bench::process/) sum[file] += $1 }
         END { for (file in sum) print sum[file], file }'
}

{
  count $FEW "$@" | sed 's/^/few /'
  count $MANY "$@" | sed 's/^/many /'
} | awk '
  { n = $2; file = $0; sub(/^[a-z]+ [0-9]+ /, "", file) }
  { sign = $1 == "few" ? -1 : 1 }
  file == "packets" { packets += sign * n; next }
  { sum[file] += sign * n }
  END {
    for (file in sum) if (sum[file] / packets >= 0.5) { printf "%8.1f  %s\n", sum[file] / packets, file; all += sum[file] }
    printf "%8.1f  in all\n", all / packets
  }' | sort -rn
