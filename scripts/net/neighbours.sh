#!/usr/bin/env bash
# Who answers for what, and next hops: ARP, neighbour discovery, ping, a first packet to an unresolved neighbour,
# a backend that goes away and comes back.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

pings() { in_ns "$1" ping -c 5 -i 0.2 -W 10 -s "${3:-56}" "$2"; }

# ping checks the content of each answer; a wrong ICMP checksum would make the kernel drop it, and show as loss.
pings_all_sizes() {
  local size
  for size in 0 1 55 56 1000 "$3"; do in_ns "$1" ping -q -c 2 -i 0.1 -W 10 -s "$size" "$2" || return; done
}

# resolves NS ADDRESS NS2 IF: after a ping, NS has the address of NS2's interface for it.
resolves() {
  ns_ip "$1" neighbor flush all
  in_ns "$1" ping -c 1 -W 10 "$2" || return
  ns_ip "$1" neighbor show "$2"
  ns_ip "$1" neighbor show "$2" | grep -q "lladdr $(mac_of "$3" "$4")"
}

# Addresses that are nobody's get no answer.
unanswered() {
  ! in_ns "$1" ping -c 2 -i 0.2 -W 2 "$2" && ! ns_ip "$1" neighbor show "$2" | grep lladdr
}

# The balancer knows no neighbour yet, and no client either. The first SYN waits in the balancer for the answer; were it
# lost, the client's kernel would have to send it again. On a busy machine a retransmission may have another reason,
# so one clean start in five is enough: a balancer that loses it loses it every time.
first_syn_survives() {
  local i before after n
  for i in 1 2 3 4 5; do
    lb_stop || true
    for n in client "${BACKENDS[@]}"; do ns_ip "$n" neighbor flush all; done
    lb_start "$LB_CONFIG"
    before=$(syn_retransmissions)
    in_ns client curl -sS --fail --max-time 60 "$1" || return
    after=$(syn_retransmissions)
    echo "start $i: SYN retransmissions $before -> $after"
    ((after > before)) || return 0
  done
  return 1
}

syn_retransmissions() { in_ns client nstat -asz TcpExtTCPSynRetrans | awk '/TcpExtTCPSynRetrans/ { print $2 }'; }

first_datagram_survives() {
  local i n
  for i in 1 2 3; do
    lb_stop || true
    for n in client "${BACKENDS[@]}"; do ns_ip "$n" neighbor flush all; done
    lb_start "$LB_CONFIG"
    if udp "$1" 53 1 1; then return 0; fi
  done
  return 1
}

# Requests go on: those for b1 and b2 are answered; those for the dead b3 time out, so only a sure number must succeed.
others_go_on() {
  local out=$RUN_DIR/vanish.out
  : >"$out"
  in_ns client curl -s -H 'Connection: close' --connect-timeout 1 --max-time 5 --parallel --parallel-max 20 \
    -w '= %{http_code} %{exitcode}\n' "$(url "$NAT_VIP4")?n=[1-60]" 2>/dev/null |
    awk '$1 == "=" { print name, $2, $3; name = "-"; next } { name = $1 }' >"$out" || true
  http_spread "$out"
  (($(grep -c '^b[12] 200 0' "$out") > 0)) && ! grep '^b3 200' "$out"
}

test_begin 'neighbours: ARP, neighbour discovery, ping, unresolved and vanished next hops'

scene two-arm
bed_up two-arm
conf_all two-arm >"$LB_CONFIG"
# shellcheck disable=SC2046
{
  conf_service wan4 "$WAN_VIP4" 80 tcp nat round-robin $(conf_backends 4 8080)
  conf_service wan6 "$WAN_VIP6" 80 tcp nat round-robin $(conf_backends 6 8080)
} >>"$LB_CONFIG"
lb_start "$LB_CONFIG"
udp_servers 0.0.0.0 ::
for target in 10.0.0.2 2001:db8:a::2 "$NAT_VIP4" "$NAT_VIP6" "$DSR_VIP4" "$DSR_VIP6" "$WAN_VIP4" "$WAN_VIP6"; do
  check "client pings $target" pings client "$target"
done
for target in 10.1.0.1 2001:db8:b::1; do check "b1 pings $target" pings b1 "$target"; done
check 'echo of many sizes (IPv4)' pings_all_sizes client "$NAT_VIP4" 1472
check 'echo of many sizes (IPv6)' pings_all_sizes client "$NAT_VIP6" 1452
check 'ARP for a port address' resolves client 10.0.0.2 lb wan
check 'ARP for a VIP on the subnet' resolves client "$WAN_VIP4" lb wan
check 'neighbour discovery for a port address' resolves client 2001:db8:a::2 lb wan
check 'neighbour discovery for a VIP on the subnet' resolves client "$WAN_VIP6" lb wan
check 'ARP for the port address on the LAN' resolves b1 10.1.0.1 lb lan
check 'neighbour discovery for the port address on the LAN' resolves b1 2001:db8:b::1 lb lan
check 'no ARP answer for an address of nobody' unanswered client 10.0.0.77
check 'no neighbour advertisement for an address of nobody' unanswered client 2001:db8:a::77
check 'requests to a VIP on the subnet (IPv4)' http_all "$(url "$WAN_VIP4")" 60
check 'requests to a VIP on the subnet (IPv6)' http_all "$(url "$WAN_VIP6")" 60
after_all
check 'the first SYN is not lost (nat, IPv4)' first_syn_survives "$(url "$NAT_VIP4")"
check 'the first SYN is not lost (nat, IPv6)' first_syn_survives "$(url "$NAT_VIP6")"
check 'the first SYN is not lost (dsr, IPv4)' first_syn_survives "$(url "$DSR_VIP4")"
check 'the first SYN is not lost (dsr, IPv6)' first_syn_survives "$(url "$DSR_VIP6")"
check 'the first datagram is not lost (nat, IPv4)' first_datagram_survives "$NAT_VIP4"
check 'the first datagram is not lost (nat, IPv6)' first_datagram_survives "$NAT_VIP6"
after_all

scene 'a backend vanishes'
check 'all three answer' http_all "$(url "$NAT_VIP4")" 60
ns_ip b3 link set eth0 down
lb_stop || true
lb_start "$LB_CONFIG"
check 'the two others go on' others_go_on
check 'both conservation equations hold' conservation
ns_ip b3 link set eth0 up
# Taking the link down removed its default routes and its IPv6 address.
address b3 eth0 "$(backend6 b3)/64" || true
route b3 default via 10.1.0.1
route b3 ::/0 via 2001:db8:b::1
check 'it is used again once it is back' wait_until 60 http_all "$(url "$NAT_VIP4")" 60
after_all
bed_down

scene one-arm
up one-arm
for target in 10.1.0.1 2001:db8:b::1 "$NAT_VIP4" "$NAT_VIP6"; do check "client pings $target" pings client "$target"; done
check 'the first SYN is not lost (IPv4)' first_syn_survives "$(url "$NAT_VIP4")"
check 'the first SYN is not lost (IPv6)' first_syn_survives "$(url "$NAT_VIP6")"
after_all
test_end
