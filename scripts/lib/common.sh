# shellcheck shell=bash
# shellcheck disable=SC2034  # constants for the scripts that source this
# Words on the terminal, cleaning up, signals, and waiting.
# Sourced by every script; sourcing it only defines things and sets the traps.

SLUICE_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  C_DIM=$'\e[2m' C_BOLD=$'\e[1m' C_RED=$'\e[31m' C_GREEN=$'\e[32m' C_YELLOW=$'\e[33m' C_OFF=$'\e[0m'
else
  C_DIM='' C_BOLD='' C_RED='' C_GREEN='' C_YELLOW='' C_OFF=''
fi

# step LABEL TEXT: one progress line.
step() { printf '  %s%-11s%s %s\n' "$C_BOLD" "$1" "$C_OFF" "$2"; }

# note TEXT: a line under the last step.
note() { printf '  %-11s %s%s%s\n' '' "$C_DIM" "$1" "$C_OFF"; }

warn() { printf '%swarning:%s %s\n' "$C_YELLOW" "$C_OFF" "$1" >&2; }

# die TEXT...: one error line, then what to do about it, then out.
die() {
  printf '%serror:%s %s\n' "$C_RED" "$C_OFF" "$1" >&2
  shift
  local line
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}

# --- cleaning up -------------------------------------------------------------------------------------------------
# Functions given to on_exit run last first, once, whatever ended the script: its end, an error, Ctrl-C, SIGTERM.

SLUICE_ON_EXIT=()
SLUICE_FOREGROUND=''

on_exit() { SLUICE_ON_EXIT+=("$1"); }

# sluice_leave STATUS. A second signal while the first is acted on (an impatient Ctrl-C, timeout(1)) must not cut the
# cleaning short: signals are ignored before anything else, and handlers come here directly, since an `exit` within the
# EXIT trap would end the script at once.
sluice_leave() {
  trap '' INT TERM HUP
  trap - EXIT
  local status=$1 i
  set +e
  if [[ -n $SLUICE_FOREGROUND ]]; then
    kill -TERM -- "-$SLUICE_FOREGROUND" 2>/dev/null
    SLUICE_FOREGROUND=''
  fi
  for ((i = ${#SLUICE_ON_EXIT[@]} - 1; i >= 0; i--)); do "${SLUICE_ON_EXIT[i]}"; done
  exit "$status"
}

# temp_file: a temporary file that goes away with the script; its name in TEMP_FILE.
temp_file() {
  TEMP_FILE=$(mktemp)
  SLUICE_TEMP_FILES+=("$TEMP_FILE")
}
SLUICE_TEMP_FILES=()
remove_temp_files() { rm -f "${SLUICE_TEMP_FILES[@]}"; }
on_exit remove_temp_files

trap 'sluice_leave $?' EXIT
trap 'sluice_leave 129' HUP
trap 'sluice_leave 130' INT
trap 'sluice_leave 143' TERM

# run CMD...: run a program (not a shell function) and wait for it, so that a signal is acted on at once and reaches
# everything that the program started. Bash defers traps while an ordinary foreground command runs.
run() {
  local status=0
  setsid "$@" </dev/null &
  SLUICE_FOREGROUND=$!
  wait "$SLUICE_FOREGROUND" || status=$?
  SLUICE_FOREGROUND=''
  return "$status"
}

# --- waiting -----------------------------------------------------------------------------------------------------

# wait_until SECONDS CMD...: try CMD ten times a second until it succeeds; fails once the time is over.
# Deadlines are generous: they end a test that hangs, they do not judge speed.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# seconds_since START: for "1m07s" in progress lines; START is a value of $SECONDS.
seconds_since() {
  local s=$((SECONDS - $1))
  if ((s >= 60)); then printf '%dm%02ds' $((s / 60)) $((s % 60)); else printf '%ds' "$s"; fi
}

# --- the machine -------------------------------------------------------------------------------------------------

require_root() {
  ((EUID == 0)) || die "$1 needs root: it makes network namespaces." "Run it with sudo, or in a container with CAP_NET_ADMIN and CAP_SYS_ADMIN."
}

# allowed_cpus: the CPUs that this process may run on, one per line, as in "0-3,8".
allowed_cpus() {
  local list part
  list=$(awk '/^Cpus_allowed_list:/ { print $2 }' /proc/self/status)
  for part in ${list//,/ }; do seq "${part%-*}" "${part#*-}"; done
}
