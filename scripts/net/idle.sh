#!/usr/bin/env bash
# Workers that sleep while there is nothing to do, and are woken by packets, by each other and by the control thread.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# of_workers KEY: the sum over all workers.
of_workers() { ctl -o json worker | python3 -c 'import json, sys; print(sum(w[sys.argv[1]] for w in json.load(sys.stdin)))' "$1"; }

# asleep: every worker sleeps for milliseconds at a time, rather than looking again and again: a second of naps would be
# thousands for each.
asleep() {
  local before after
  before=$(of_workers sleeps)
  sleep 1
  after=$(of_workers sleeps)
  echo "$((after - before)) sleeps in a second"
  ((after - before > 50 && after - before < 2000))
}

# first_packets COUNT: each after a silence, each on a connection of its own, so that each meets sleepers.
first_packets() {
  local n
  for ((n = 0; n < $1; n++)); do
    sleep 0.05
    udp "$NAT_VIP4" 53 64 1 || return
  done
}

test_begin 'idle workers'
scene 'one worker, poll = "adaptive"'
up two-arm
udp_servers 0.0.0.0 ::
check 'it sleeps when nothing comes' asleep
check 'a datagram after silence is answered, ten times' first_packets 10
check 'configuration is taken up by a sleeper' ctl backend set-weight nat4-udp 10.1.0.11:5300 50
check 'and it sleeps again' asleep
check 'a port that goes down and comes back is no reason to stay awake' eval \
  'ns_ip lb link set wan down && sleep 0.5 && ns_ip lb link set wan up && wait_until 30 links_ready client lb && asleep'
check 'datagrams are answered still' first_packets 3
after_all
bed_down

scene 'two workers that hand packets to each other'
bed_up two-arm
conf_all two-arm |
  sed "s/^workers = .*/workers = [$CONTROL_CPU, $WORKER_CPU]/; s/^control_cpus.*/steering = \"software\"/
    s/iface=[a-z]*/&,qpairs=2/" >"$LB_CONFIG"
lb_start "$LB_CONFIG"
udp_servers 0.0.0.0 ::
check 'both sleep when nothing comes' asleep
check 'datagrams after silence are answered, twenty times' first_packets 20
handed_over() { (($(of_workers handoffs) > 0)); }
check 'some of them were handed over to a sleeper' handed_over
after_all
bed_down
test_end
