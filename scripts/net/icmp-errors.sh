#!/usr/bin/env bash
# ICMP errors of routers on both sides of the balancer: path-MTU discovery across links of 1280 bytes, and traceroute.
#
#   far ══ client ── lb ── bridge ── b1, b2, b3
#                             └── inner ══ deep
#
# ══: a link that takes 1280 bytes towards its end. Neither end can see that: its own interface has 1500.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

FAR4=198.51.100.129 FAR6=2001:db8:c9::2
DEEP4=10.2.0.2 DEEP6=2001:db8:d::2
# On the nat subnets of topology.sh.
FULL_VIP4=192.0.2.12 FULL_VIP6=2001:db8:f1::12
DEEP_VIP4=192.0.2.13 DEEP_VIP6=2001:db8:f1::13

# narrow ROUTER IF HOST ADDRESSES...: a veth whose router's end takes 1280 bytes.
narrow() {
  wire "$1" "$2" "$3" eth0
  ns_ip "$1" link set "$2" up mtu 1280
  ns_ip "$3" link set eth0 up
  ns_sysctl "$1" net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
}

network() {
  bed_up two-arm
  ns_add far
  ns_add inner
  ns_add deep
  narrow client far0 far
  address client far0 198.51.100.130/30 2001:db8:c9::1/64
  address far eth0 "$FAR4/30" "$FAR6/64"
  route far default via 198.51.100.130
  route far ::/0 via 2001:db8:c9::1
  wire inner lan0 lan to-inner
  bridge_port to-inner
  ns_ip inner link set lan0 up
  address inner lan0 10.1.0.60/24 2001:db8:b::60/64
  route inner default via 10.1.0.1
  route inner ::/0 via 2001:db8:b::1
  narrow inner deep0 deep
  address inner deep0 10.2.0.1/24 2001:db8:d::1/64
  address deep eth0 "$DEEP4/24" "$DEEP6/64"
  route deep default via 10.2.0.1
  route deep ::/0 via 2001:db8:d::1
  # dsr: its answers go past the balancer.
  route b3 "$FAR4/32" via 10.1.0.254
  route b3 "$FAR6/128" via 2001:db8:b::fe
  wait_until 30 links_ready client far lan inner deep || die 'the links of the test network did not come up'
}
bridge_port() {
  ns_ip lan link set "$1" master br0
  silent lan "$1"
}

config() {
  conf_runtime
  conf_ports two-arm
  printf '\n[[route]]\nto = "10.2.0.0/24"\nvia = "10.1.0.60"\n\n[[route]]\nto = "2001:db8:d::/64"\nvia = "2001:db8:b::60"\n'
  conf_service nat4 "$NAT_VIP4" 80 tcp nat round-robin "$(backend4 b1):8080"
  conf_service nat6 "$NAT_VIP6" 80 tcp nat round-robin "[$(backend6 b1)]:8080"
  conf_service full4 "$FULL_VIP4" 80 tcp full-nat round-robin "$(backend4 b2):8080"
  conf_service full6 "$FULL_VIP6" 80 tcp full-nat round-robin "[$(backend6 b2)]:8080"
  conf_service dsr4 "$DSR_VIP4" 80 tcp dsr round-robin "$(backend4 b3):80"
  conf_service dsr6 "$DSR_VIP6" 80 tcp dsr round-robin "[$(backend6 b3)]:80"
  conf_service deep4 "$DEEP_VIP4" 80 tcp nat round-robin "$DEEP4:8080"
  conf_service deep6 "$DEEP_VIP6" 80 tcp nat round-robin "[$DEEP6]:8080"
  conf_service closed4 "$DEEP_VIP4" 53 udp nat round-robin "$DEEP4:5300"
  conf_service closed6 "$DEEP_VIP6" 53 udp nat round-robin "[$DEEP6]:5300"
}

# from_far URL: the blob arrives at far byte for byte.
from_far() {
  local got
  got=$(in_ns far curl -sS --fail --max-time 120 "$1files/blob" | sha256sum)
  [[ $got == "$BLOB_SHA256" ]] || { echo "sha256 differs: $got"; return 1; }
}

# to_deep URL: the blob arrives at deep byte for byte.
to_deep() {
  local got
  got=$(in_ns client curl -sS --fail --max-time 120 -H Expect: --data-binary "@$RUN_DIR/files/blob" "$1")
  [[ $got == "${BLOB_SHA256%% *}" ]] || { echo "the server has $got"; return 1; }
}

# knows_mtu NAME DESTINATION: its kernel has learnt that packets there may have 1280 bytes.
knows_mtu() {
  ns_ip "$1" route get "$2"
  ns_ip "$1" route get "$2" | grep -q 'mtu 1280'
}

# trace FAMILY VIP PORT HOPS [OPTION...]: traceroute from far to VIP shows HOPS, separated by spaces, and ends there.
trace() {
  local family=$1 vip=$2 port=$3 want=$4 hops
  shift 4
  in_ns far traceroute "-$family" -n -q 1 -w 5 -m 8 -p "$port" "$@" "$vip" >"$RUN_DIR/trace.out" || return
  cat "$RUN_DIR/trace.out"
  hops=$(awk 'NR > 1 { print $2 }' "$RUN_DIR/trace.out" | paste -sd ' ')
  [[ $hops == "$want" ]] || { echo "want $want"; return 1; }
}

test_begin 'ICMP errors: path-MTU discovery and traceroute'
blob 5
network
config >"$LB_CONFIG"
for f in 4 6; do
  if [[ $f == 4 ]]; then a=$DEEP4; else a=$DEEP6; fi
  daemon_start "sink$f" ip netns exec "$(ns deep)" python3 "$NET_DIR/sink.py" "$a" 8080
  wait_until 30 grep -q ready "$RUN_DIR/log/sink$f.log" || die 'the server behind the inner router did not start'
done
lb_start "$LB_CONFIG"
for f in 4 6; do
  scene "IPv$f"
  if [[ $f == 4 ]]; then
    far=$FAR4 nat=$NAT_VIP4 full=$FULL_VIP4 dsr=$DSR_VIP4 deep=$DEEP_VIP4 router=198.51.100.130 lb=10.0.0.2
  else
    far=$FAR6 nat=$NAT_VIP6 full=$FULL_VIP6 dsr=$DSR_VIP6 deep=$DEEP_VIP6 router=2001:db8:c9::1 lb=2001:db8:a::2
  fi
  check 'nat: a download fits through a link of 1280 bytes before the client' from_far "$(url "$nat")"
  check 'nat: the backend knows the MTU to the client' knows_mtu b1 "$far"
  check 'full-nat: so does a download' from_far "$(url "$full")"
  check 'dsr: so does one that goes past the balancer' from_far "$(url "$dsr")"
  check 'dsr: the backend heard of the MTU by way of the balancer' knows_mtu b3 "$far"
  check 'nat: an upload fits through a link of 1280 bytes before the backend' to_deep "$(url "$deep")"
  check 'nat: the client knows the MTU to the service' knows_mtu client "$deep"
  check 'traceroute by TCP shows router, balancer and service' trace $f "$nat" 80 "$router $lb $nat" -T
  check 'traceroute by TCP shows a hop more where a router is before the backend' trace $f "$deep" 80 "$router $lb $lb $deep" -T
  check 'traceroute by UDP ends at a closed port' trace $f "$deep" 53 "$router $lb $lb $deep" -U
done
check 'errors were passed on, and none was bad' \
  test "$(stat_of "sum(s['drops'].get(r, 0) for r in ('icmp_malformed', 'icmp_error_checksum', 'icmp_error_truncated', 'icmp_unrelated'))")" = 0
after_all
bed_down
test_end
