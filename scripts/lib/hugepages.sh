# shellcheck shell=bash
# Hugepages of 2 MiB, borrowed for a run and given back.
# Runs may overlap, so each adds what it lacks and later subtracts the same number; it never sets an absolute value.

SLUICE_NR_HUGEPAGES=/proc/sys/vm/nr_hugepages

hugepages_free() { awk '/^HugePages_Free:/ { free = $2 } /^HugePages_Rsvd:/ { rsvd = $2 } END { print free - rsvd }' /proc/meminfo; }

# hugepages_add N (may be negative): change the pool under a lock; prints by how much it really changed.
hugepages_add() {
  (
    flock 9
    before=$(<"$SLUICE_NR_HUGEPAGES")
    want=$((before + $1))
    ((want >= 0)) || want=0
    echo "$want" >"$SLUICE_NR_HUGEPAGES" || exit 1
    after=$(<"$SLUICE_NR_HUGEPAGES")
    echo $((after - before))
  ) 9<"$SLUICE_NR_HUGEPAGES" 2>/dev/null
}

# hugepages_borrow MIB: make MIB of 2 MiB pages free. Sets HUGEPAGES=true, or false when the machine does not allow it
# (no support, a read-only /proc, too little or too fragmented memory), with the reason in HUGEPAGES_WHY.
# Needs an open run (run.sh), whose end gives them back.
# shellcheck disable=SC2034
hugepages_borrow() {
  local need=$((($1 + 1) / 2)) free lacking got earlier=0
  HUGEPAGES=false HUGEPAGES_WHY=''
  if ! grep -q '^Hugepagesize: *2048 kB' /proc/meminfo; then
    HUGEPAGES_WHY='this kernel has no 2 MiB pages'
    return
  fi
  free=$(hugepages_free)
  lacking=$((need - free))
  if ((lacking <= 0)); then
    HUGEPAGES=true HUGEPAGES_WHY="$free pages of 2 MiB were free already"
    return
  fi
  if [[ ! -w $SLUICE_NR_HUGEPAGES ]] || ! got=$(hugepages_add "$lacking"); then
    HUGEPAGES_WHY="$SLUICE_NR_HUGEPAGES cannot be written here"
    return
  fi
  [[ ! -f $RUN_DIR/hugepages ]] || earlier=$(<"$RUN_DIR/hugepages")
  echo $((earlier + got)) >"$RUN_DIR/hugepages"
  if (($(hugepages_free) < need)); then
    hugepages_add "-$got" >/dev/null || true
    echo "$earlier" >"$RUN_DIR/hugepages"
    HUGEPAGES_WHY="the kernel found only $((free + got)) of $need pages of 2 MiB"
    return
  fi
  HUGEPAGES=true HUGEPAGES_WHY="$got pages of 2 MiB added, given back at the end"
}

# hugepages_return RUN_DIR: give back what that run added; harmless when it added none or gave it back already.
hugepages_return() {
  local mine=$1/hugepages.returning.$BASHPID added
  mv "$1/hugepages" "$mine" 2>/dev/null || return 0
  added=$(<"$mine")
  rm -f "$mine"
  hugepages_add "-$added" >/dev/null || warn "could not give back $added hugepages; see $SLUICE_NR_HUGEPAGES"
}
