# shellcheck shell=bash
# A run: one use of the scripts, with an id that no other living run has, a directory, namespaces named after it,
# and the processes it started. Whatever ended the last run, the next one sweeps what it left.
#
#   /tmp/sluice-ID/owner      pid and start time of the script
#   /tmp/sluice-ID/pids       pid, start time and name of each daemon started
#   /tmp/sluice-ID/hugepages  how many pages were added to the pool
#   /tmp/sluice-ID/keep       left running on purpose: never swept, only stopped
#   namespaces                sluice-ID-NAME

SLUICE_RUNS=/tmp
RUN_ID='' RUN_DIR='' RUN_KEPT=''

# process_started PID: start time in clock ticks, which with the pid names a process once and for all.
process_started() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086
  set -- $stat
  [[ $1 != Z ]] || return 1
  echo "${20}"
}

# process_is PID STARTED: is it still that very process?
process_is() { [[ $(process_started "$1") == "$2" ]]; }

# run_open: sweep the dead, then take an id. The run is closed on exit.
run_open() {
  local id
  command -v ip >/dev/null || die 'ip is not installed' 'Install it: apt-get install iproute2'
  run_sweep
  for id in "$$" "$$"{a..z}; do
    if mkdir -m 755 "$SLUICE_RUNS/sluice-$id" 2>/dev/null; then
      RUN_ID=$id RUN_DIR=$SLUICE_RUNS/sluice-$id
      on_exit run_close
      echo "$$ $(process_started $$)" >"$RUN_DIR/owner"
      : >"$RUN_DIR/pids"
      mkdir "$RUN_DIR/log"
      return
    fi
  done
  die "cannot make a directory in $SLUICE_RUNS"
}

run_close() {
  [[ -n $RUN_ID && -z $RUN_KEPT ]] || return 0
  run_remove "$RUN_ID"
  RUN_ID='' RUN_DIR=''
}

# run_keep: leave this run behind when the script ends.
run_keep() {
  : >"$RUN_DIR/keep"
  RUN_KEPT=1
}

# run_remove ID: stop its processes, remove its namespaces, give back its hugepages, forget it.
run_remove() {
  local dir=$SLUICE_RUNS/sluice-$1 pid started name ns i
  local -a ours=()
  while read -r pid started name; do
    if process_is "$pid" "$started"; then ours+=("$pid"); fi
  done < <(tac "$dir/pids" 2>/dev/null)
  # A daemon's children, and whatever was started by hand in a kept run, show up in its namespaces.
  while read -r ns; do
    while read -r pid; do ours+=("$pid"); done < <(ip netns pids "$ns" 2>/dev/null)
  done < <(run_namespaces "$1")
  if ((${#ours[@]})); then
    kill -TERM "${ours[@]}" 2>/dev/null || true
    for ((i = 0; i < 100; i++)); do
      pids_alive "${ours[@]}" || break
      sleep 0.1
    done
    if pids_alive "${ours[@]}"; then kill -KILL "${ours[@]}" 2>/dev/null || true; fi
  fi
  while read -r ns; do ip netns del "$ns" 2>/dev/null || true; done < <(run_namespaces "$1")
  hugepages_return "$dir"
  rm -rf "$dir"
  return 0
}

pids_alive() {
  local pid
  for pid in "$@"; do
    if process_started "$pid" >/dev/null; then return 0; fi
  done
  return 1
}

run_namespaces() { ip netns list 2>/dev/null | awk -v p="sluice-$1-" 'index($1, p) == 1 { print $1 }'; }

# run_list: ids of all runs that have a directory of ours.
run_list() {
  local dir
  for dir in "$SLUICE_RUNS"/sluice-*/; do
    [[ -O $dir && -f $dir/pids ]] || continue
    dir=${dir%/}
    echo "${dir##*/sluice-}"
  done
}

# run_sweep: remove the runs whose script is gone, except those kept on purpose.
run_sweep() {
  local id pid started
  for id in $(run_list); do
    [[ ! -e $SLUICE_RUNS/sluice-$id/keep ]] || continue
    read -r pid started 2>/dev/null <"$SLUICE_RUNS/sluice-$id/owner" || continue
    process_is "$pid" "$started" && continue
    run_remove "$id"
  done
}

# run_stop_kept [ID]: stop the runs that were left running, or that one; prints how many.
run_stop_kept() {
  local id n=0
  for id in $(run_list); do
    [[ -e $SLUICE_RUNS/sluice-$id/keep && ${1:-$id} == "$id" ]] || continue
    run_remove "$id"
    n=$((n + 1))
  done
  echo "$n"
}

# --- daemons -----------------------------------------------------------------------------------------------------

# daemon_start NAME CMD...: in the background, in a session of its own, output in $RUN_DIR/log/NAME.log.
# CMD must not fork away. Sets DAEMON_PID.
daemon_start() {
  local name=$1
  shift
  setsid "$@" </dev/null >"$RUN_DIR/log/$name.log" 2>&1 &
  DAEMON_PID=$!
  echo "$DAEMON_PID $(process_started "$DAEMON_PID" || echo 0) $name" >>"$RUN_DIR/pids"
}

# daemon_stop PID [SECONDS]: SIGTERM, then wait. Returns the daemon's exit status; 137 if it had to be killed.
daemon_stop() {
  local pid=$1 seconds=${2:-30} status=0
  kill -TERM "$pid" 2>/dev/null || true
  if ! wait_until "$seconds" pid_gone "$pid"; then
    kill -KILL "$pid" 2>/dev/null || true
  fi
  # Bash reports a child's death by signal on standard error.
  { wait "$pid" || status=$?; } 2>/dev/null
  return "$status"
}

# daemon_kill PID: SIGKILL, as a crash would.
daemon_kill() {
  kill -KILL "$1"
  { wait "$1" || true; } 2>/dev/null
}

pid_gone() { ! process_started "$1" >/dev/null; }
