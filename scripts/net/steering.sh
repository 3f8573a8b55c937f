#!/usr/bin/env bash
# Two workers: real TCP connections hold whichever worker their packets arrive at, and wherever there is a queue.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

COUNT=10000

# conf_two_workers DEVICE-OF-WAN DEVICE-OF-LAN STEERING
conf_two_workers() {
  local second=$WORKER_CPU
  [[ $second != "$CONTROL_CPU" ]] || die 'this test needs two CPUs'
  conf_runtime | sed "s/^workers = .*/workers = [$CONTROL_CPU, $second]/; s/^max_connections = .*/&\nsteering = \"$3\"/"
  conf_ports two-arm | sed "s/net_af_packet0,iface=wan/$1/; s/net_af_packet1,iface=lan/$2/"
  # shellcheck disable=SC2046  # one word per backend
  {
    conf_service nat4 "$NAT_VIP4" 80 tcp nat round-robin $(conf_backends 4 8080)
    conf_service nat6 "$NAT_VIP6" 80 tcp nat round-robin $(conf_backends 6 8080)
    conf_service full4 "$NAT_VIP4" 81 tcp full-nat round-robin $(conf_backends 4 8080)
    conf_service full6 "$NAT_VIP6" 81 tcp full-nat round-robin $(conf_backends 6 8080)
  }
}

connections() { in_ns client timeout 120 python3 "$NET_DIR/connections.py" "$1" "$2" "$3" 100; }

# The backends saw the balancer's own address, and nobody else's.
seen_by_backends() {
  local b others
  for b in "${BACKENDS[@]}"; do
    others=$(in_ns "$b" ss -Htan state time-wait "sport = :8080" | awk '{ print $4 }' | grep -cv '^10\.1\.0\.1:' || true)
    echo "$b: $others connections from elsewhere"
    [[ $others == 0 ]] || return 1
  done
}

# Both workers own connections, whoever receives.
both_own() {
  local counts
  counts=$(stat_of "[w['connections_active'] for w in s['workers']]")
  echo "connections by worker: $counts"
  [[ $counts != *'[0,'* && $counts != *', 0]'* && $counts != -1 ]]
}

# handed LEAST MOST: the share of received packets that were handed over, in percent.
handed() {
  local share
  share=$(stat_of "100 * sum(w['handoffs'] for w in s['workers']) // max(1, s['rx_packets'])")
  echo "$share % of the packets were handed over"
  ((share >= $1 && share <= $2))
}

# drops_nothing: no packet of a connection was lost on the way, not even between workers.
drops_nothing() {
  local drops
  drops=$(stat_of "{k: v for k, v in s['drops'].items() if v and k in ('handoff_full', 'tx_full', 'no_connection', 'no_service', 'reply_conflict', 'local_ports_exhausted')}")
  echo "drops: $drops"
  [[ $drops == '{}' ]]
}

# ports_say TEXT: sluicectl port says so of every port.
ports_say() {
  ctl port
  [[ $(ctl port | grep -c "$1") == 2 ]]
}

# two_workers WAN LAN STEERING
two_workers() {
  conf_cpus
  conf_two_workers "$@" >"$LB_CONFIG"
  lb_start "$LB_CONFIG"
}

# through LEAST MOST: the connections, and what must hold afterwards.
through() {
  check "$COUNT connections by full-nat, IPv4: none broken" connections "$NAT_VIP4" 81 "$COUNT"
  check 'the backends saw the address of the balancer alone' seen_by_backends
  check '1000 connections by full-nat, IPv6: none broken' connections "$NAT_VIP6" 81 1000
  check "$COUNT connections by nat, IPv4: none broken" connections "$NAT_VIP4" 80 "$COUNT"
  check '1000 connections by nat, IPv6: none broken' connections "$NAT_VIP6" 80 1000
  check 'both workers own connections' both_own
  check "$1 to $2 % of the packets were handed over" handed "$1" "$2"
  check 'nothing was lost between workers' drops_nothing
  after_all
}

# A tap is made by the daemon, in its namespace; then its kernel's side moves to where it belongs, under an address of its
# own, for it has the port's.
taps_move() {
  ns_ip lb link set wan netns "$(ns client)" && ns_ip lb link set lan netns "$(ns lan)" &&
    offloads_off client wan && offloads_off lan lan &&
    ns_ip client link set wan address 02:00:00:00:bb:01 && ns_ip lan link set lan address 02:00:00:00:bb:02 &&
    ns_ip client link set wan up && address client wan 10.0.0.1/24 2001:db8:a::1/64 &&
    route client 192.0.2.0/28 via 10.0.0.2 dev wan src "$NAT_CLIENT4" &&
    route client 2001:db8:f1::/64 via 2001:db8:a::2 dev wan src "$NAT_CLIENT6" &&
    ns_ip lan link set lan master br0 && silent lan lan
}

test_begin 'steering: two workers'

scene 'two queues, spread by the kernel: hand-off forced'
bed_up two-arm
two_workers 'net_af_packet0,iface=wan,qpairs=2' 'net_af_packet1,iface=lan,qpairs=2' software
check 'two queues each way' ports_say 'queues: 2 of 2 rx .* 2 of 2 tx'
through 35 80
bed_down

scene 'one queue a port'
bed_up two-arm
two_workers 'net_af_packet0,iface=wan' 'net_af_packet1,iface=lan' auto
check 'one queue each way' ports_say 'queues: 1 of 1 rx .* 1 of 1 tx'
through 35 80
bed_down

# A tap sends packets of a flow to the queue that the flow was last sent from, as far as its table of flows reaches (4,096):
# after the first packet they arrive right.
scene 'two queues, spread by who sent last: hand-off avoided'
bed_up two-arm
ns_ip lb link del wan
ns_ip lb link del lan
two_workers 'net_tap0,iface=wan,mac=02:00:00:00:aa:01' 'net_tap1,iface=lan,mac=02:00:00:00:aa:02' auto
check 'the taps are where they belong' taps_move
through 0 35
bed_down

test_end
