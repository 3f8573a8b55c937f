#!/usr/bin/env bash
# Every test of Sluice, in one command: see usage below.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/test.sh [--only PART]... [--list] [--help] [NAME]...

Installs what is missing and runs every test. The last line is "N passed, N failed, N skipped", counted in steps;
the exit status is 0 only if none failed.

  --only PART   only the steps of one part: style, unit, net (may be given again)
  NAME          only the steps whose name contains NAME (may be given again)
  --list        print the steps and stop

Parts:
  style   formatting, clippy with warnings denied, shellcheck
  unit    unit, property, golden-packet, pipeline and EAL tests; the library without DPDK; the same under AddressSanitizer
  net     the release build, the quickstart, and sluiced in network namespaces with real programs (as root)

SLUICE_BIN=DIR tests sluiced and sluicectl from DIR in the net part in place of building them.
TEXT
}

PARTS=() NAMES=() LIST=0
while (($#)); do
  case $1 in
    --only)
      case ${2:-} in style | unit | net) PARTS+=("$2") ;; *) usage >&2; exit 2 ;; esac
      shift
      ;;
    --list) LIST=1 ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) NAMES+=("$1") ;;
  esac
  shift
done

LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"
# shellcheck source=scripts/lib/packages.sh
source "$LIB/packages.sh"
cd "$SLUICE_ROOT"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

# --- steps -------------------------------------------------------------------------------------------------------
# A step is a function step_NAME or a program; it fails by its exit status, and 77 means skipped, with the reason as the
# last line of its output.

SKIP=77
HOST=x86_64-unknown-linux-gnu

skip() {
  echo "$1"
  return $SKIP
}

step_fmt() { run cargo fmt --all --check; }
step_clippy() { run cargo clippy --locked --workspace --all-targets -- -D warnings; }
step_clippy_no_dpdk() { run cargo clippy --locked -p dataplane --no-default-features --all-targets -- -D warnings; }

step_shellcheck() {
  command -v shellcheck >/dev/null || { skip 'shellcheck is not installed'; return; }
  run shellcheck -x scripts/*.sh scripts/lib/*.sh scripts/net/*.sh perf/*.sh perf/bench/*.sh .ci/run
}

# The EAL starts once per process, so tests that start it need a process each: nextest does that for every test.
step_tests() {
  if have_nextest; then
    run cargo nextest run --locked --workspace --no-fail-fast
  else
    each_in_its_own_process --workspace
  fi
}

step_doc_tests() { run cargo test --locked --workspace --doc; }

step_tests_no_dpdk() {
  if have_nextest; then
    run cargo nextest run --locked -p dataplane --no-default-features --no-fail-fast
  else
    run cargo test --locked -p dataplane --no-default-features
  fi
}

step_tests_asan() {
  rustup toolchain list 2>/dev/null | grep -q '^nightly' ||
    { skip 'no nightly toolchain; rustup toolchain install nightly --profile minimal'; return; }
  # Property tests with fewer cases each: the sanitizer looks at memory, the cases were all run above.
  run env RUSTFLAGS=-Zsanitizer=address PROPTEST_CASES="${PROPTEST_CASES:-64}" \
    cargo +nightly test --locked -p dataplane --no-default-features --target $HOST --lib --tests
}

have_nextest() { cargo nextest --version >/dev/null 2>&1; }

# each_in_its_own_process CARGO-ARGS...: what nextest does, with cargo alone: build, list, run each by its exact name.
each_in_its_own_process() {
  local list failed=0
  temp_file
  list=$TEMP_FILE
  run cargo test --locked "$@" --lib --bins --tests --no-run || return
  cargo test --locked "$@" --lib --bins --tests --no-run --message-format json 2>/dev/null |
    python3 -c 'import json, subprocess, sys
for line in sys.stdin:
    message = json.loads(line)
    binary = message.get("executable")
    if binary and message["profile"]["test"]:
        home = message["manifest_path"].removesuffix("/Cargo.toml")
        listed = subprocess.run([binary, "--list", "--format", "terse"], capture_output=True, text=True, check=True).stdout
        for test in listed.splitlines():
            if test.endswith(": test"):
                print(home, binary, test.removesuffix(": test"))' >"$list"
  # shellcheck disable=SC2016
  run xargs -a "$list" -L 1 -P "$(nproc)" sh -c '
    cd "$0" && out=$("$1" --exact "$2" 2>&1) && exit 0
    echo "FAILED: ${1##*/} $2"
    echo "$out" | tail -n 30
    exit 1' || failed=1
  echo "$(wc -l <"$list") tests, each in a process of its own"
  [[ -s $list && $failed == 0 ]]
}

step_build() { build_release; }

can_use_namespaces() {
  ((EUID == 0)) || { skip 'not root: no network namespaces'; return; }
  ip netns add "sluice-probe-$$" 2>/dev/null || { skip 'network namespaces are not allowed here'; return; }
  ip netns del "sluice-probe-$$"
}

step_quickstart() {
  can_use_namespaces || return
  run scripts/quickstart.sh
}

net_step() {
  can_use_namespaces || return
  run "scripts/net/$1.sh"
}

# --- running them ------------------------------------------------------------------------------------------------

# part name: in this order, the cheap and telling ones first.
steps() {
  echo 'style fmt
style shellcheck
style clippy
style clippy_no_dpdk
unit tests
unit doc_tests
unit tests_no_dpdk
unit tests_asan
net build
net quickstart'
  local file name
  for file in scripts/net/*.sh; do
    name=${file##*/}
    name=${name%.sh}
    [[ $name == harness ]] || echo "net $name"
  done
}

# wanted PART NAME: the binaries are built for whatever step of net is asked for.
wanted() {
  local x
  if ((${#PARTS[@]})); then
    [[ " ${PARTS[*]} " == *" $1 "* ]] || return 1
  fi
  ((${#NAMES[@]})) || return 0
  for x in "${NAMES[@]}"; do [[ $2 != *"$x"* ]] || return 0; done
  return 1
}

selected() {
  local part name
  while read -r part name; do
    if wanted "$part" "$name"; then echo "$part $name"; fi
  done < <(steps)
}

mapfile -t SELECTED < <(selected)
((${#SELECTED[@]})) || die 'no such step' 'scripts/test.sh --list shows them all.'
# A network step needs the binaries, whether or not the name filter took the build in.
if [[ " ${SELECTED[*]} " == *'net '* && " ${SELECTED[*]} " != *'net build'* ]]; then
  if ((EUID == 0)); then SELECTED=('net build' "${SELECTED[@]}"); fi
fi
if ((LIST)); then
  printf '%s\n' "${SELECTED[@]}"
  exit 0
fi

ensure_packages "${SLUICE_BUILD_PACKAGES[@]}" "${SLUICE_NET_PACKAGES[@]}" "${SLUICE_TEST_PACKAGES[@]}"
require_cargo

PASSED=0 FAILED=0 SKIPPED=0 FAILURES=()
START=$SECONDS
for line in "${SELECTED[@]}"; do
  read -r part name <<<"$line"
  printf '\n%s=== %s%s\n' "$C_BOLD" "$name" "$C_OFF"
  began=$SECONDS status=0
  if declare -F "step_$name" >/dev/null; then call=("step_$name"); else call=(net_step "$name"); fi
  "${call[@]}" || status=$?
  took=$(seconds_since "$began")
  case $status in
    0) PASSED=$((PASSED + 1)) verdict="${C_GREEN}passed$C_OFF" ;;
    "$SKIP") SKIPPED=$((SKIPPED + 1)) verdict="${C_YELLOW}skipped$C_OFF" ;;
    *) FAILED=$((FAILED + 1)) verdict="${C_RED}FAILED$C_OFF" FAILURES+=("$name") ;;
  esac
  printf '%s--- %s: %s in %s%s\n' "$C_BOLD" "$name" "$verdict$C_BOLD" "$took" "$C_OFF"
done

printf '\n%s in all\n' "$(seconds_since "$START")"
((${#FAILURES[@]} == 0)) || printf 'failed: %s\n' "${FAILURES[*]}"
printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
((FAILED == 0))
