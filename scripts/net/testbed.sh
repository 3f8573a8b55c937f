#!/usr/bin/env bash
# The test bed itself, without the balancer: what the other tests take for granted about namespaces, veth and the kernel.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

offloads_are_off() {
  in_ns "$1" ethtool -k "$2" | grep -E '^(tx-checksumming|rx-checksumming|tcp-segmentation-offload|generic-segmentation-offload|generic-receive-offload|tx-udp-segmentation): on'
  [[ ${PIPESTATUS[1]} == 1 ]]
}

# One datagram from the client to b1 with a checksum that is wrong by one: the kernel must notice, through every veth.
wrong_checksum_is_noticed() {
  local before after
  before=$(in_ns b1 nstat -asz UdpInCsumErrors | awk '/Udp/ { print $2 }')
  in_ns client python3 - "$(mac_of b1 eth0)" <<'PY' || return
import socket, struct, sys
def sum16(b):
    t = sum(struct.unpack(f"!{len(b) // 2}H", b))
    while t >> 16:
        t = (t & 0xFFFF) + (t >> 16)
    return ~t & 0xFFFF
src, dst = socket.inet_aton("10.1.0.254"), socket.inet_aton("10.1.0.11")
udp = struct.pack("!HHHH", 4000, 5300, 12, 0) + b"four"
udp = udp[:6] + struct.pack("!H", (sum16(src + dst + struct.pack("!HH", 17, 12) + udp) + 1) & 0xFFFF or 1) + udp[8:]
ip = struct.pack("!BBHHHBBH", 0x45, 0, 32, 1, 0, 64, 17, 0) + src + dst
ip = ip[:10] + struct.pack("!H", sum16(ip)) + ip[12:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("lan0", 0))
s.send(bytes.fromhex(sys.argv[1].replace(":", "")) + s.getsockname()[4] + b"\x08\x00" + ip + udp)
PY
  sleep 0.5
  after=$(in_ns b1 nstat -asz UdpInCsumErrors | awk '/Udp/ { print $2 }')
  echo "UdpInCsumErrors $before -> $after"
  ((after == before + 1))
}

# The kernel beside the balancer must not answer anything: neither for the port addresses nor for its own.
kernel_is_silent() {
  local target
  for target in 10.1.0.1 2001:db8:b::1; do
    ! in_ns b1 ping -c 2 -i 0.2 -W 2 "$target" || return 1
  done
  if [[ $TOPOLOGY == two-arm ]]; then ! in_ns client ping -c 1 -W 2 10.0.0.2 || return 1; fi
  [[ $(in_ns lb cat /proc/sys/net/ipv4/ip_forward) == 0 ]]
}

reaches() { in_ns "$1" ping -c 1 -W 20 "$2"; }

# What a packet socket sees of TCP between two kernels.
frames_have_good_checksums() {
  local dump=$RUN_DIR/log/tcpdump.log
  daemon_start tcpdump ip netns exec "$(ns b1)" tcpdump -l -n -i eth0 -vv 'tcp port 8080'
  wait_until 60 grep -q 'listening on' "$dump" || { cat "$dump"; return 1; }
  in_ns client curl -sS --fail --max-time 60 -o /dev/null 'http://10.1.0.11:8080/?[1-10]' || return
  wait_until 60 grep -qw correct "$dump"
  daemon_stop "$DAEMON_PID" || true
  tail -n 20 "$dump"
  grep -qw correct "$dump" && ! grep -q incorrect "$dump"
}

no_trace_in_the_root_namespace() { ! ip -br link | grep -E '(^| )(wan0?|lan0?|br0|to-)'; }

SLUICED=none
test_begin 'test bed: namespaces, links and kernels behave as the tests assume'
for topology in two-arm one-arm; do
  scene "$topology"
  bed_up "$topology"
  for end in 'client lan0' 'lb lan' 'lan to-lb' 'lan to-b1' 'b1 eth0'; do
    # shellcheck disable=SC2086
    check "offloads are off on $end" offloads_are_off $end
  done
  for b in "${BACKENDS[@]}"; do
    check "client and $b see each other (IPv4)" reaches client "$(backend4 "$b")"
    check "client and $b see each other (IPv6)" reaches client "$(backend6 "$b")"
    check "$b reaches the client of dsr past the balancer (IPv4)" reaches "$b" "$DSR_CLIENT4"
    check "$b reaches the client of dsr past the balancer (IPv6)" reaches "$b" "$DSR_CLIENT6"
  done
  check 'a wrong checksum is noticed' wrong_checksum_is_noticed
  check 'frames on the wire carry finished checksums' frames_have_good_checksums
  check 'nobody answers in the place of the balancer' kernel_is_silent
  check 'the root namespace shows none of it' no_trace_in_the_root_namespace
  bed_down
done
test_end
