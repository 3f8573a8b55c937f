#!/usr/bin/env bash
# full-nat between address families: clients of one, servers of the other that have nothing else.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# On the nat subnets of topology.sh; each leads to backends of the other family.
TO_V6=192.0.2.12 TO_V4=2001:db8:f1::12
# A backend of each.
TO_BOTH=192.0.2.13

config() {
  conf_runtime
  conf_ports two-arm
  # shellcheck disable=SC2046  # one word per backend
  {
    conf_service to-v6 "$TO_V6" 80 tcp full-nat maglev $(conf_backends 6 8080)
    conf_service to-v4 "$TO_V4" 80 tcp full-nat maglev $(conf_backends 4 8080)
    conf_service to-v6-udp "$TO_V6" 53 udp full-nat maglev $(conf_backends 6 5300)
    conf_service to-v4-udp "$TO_V4" 53 udp full-nat maglev $(conf_backends 4 5300)
  }
  conf_service closed-v6 "$TO_V6" 54 udp full-nat maglev "[$(backend6 b1)]:5399"
  conf_service closed-v4 "$TO_V4" 54 udp full-nat maglev "$(backend4 b1):5399"
  conf_service to-both "$TO_BOTH" 80 tcp full-nat round-robin "$(backend4 b1):8080" "[$(backend6 b2)]:8080" "$(backend4 b3):8080"
  printf '[service.health]\ntype = "http"\ninterval = "500ms"\ntimeout = "400ms"\n'
}

# upload URL: what nginx does not take it refuses, having read it: the request crosses in full segments.
upload() {
  local got
  got=$(in_ns client curl -sS --max-time 120 -o /dev/null -w '%{http_code} %{size_upload}' -H Expect: --data-binary "@$RUN_DIR/files/part" "$1")
  echo "$got"
  [[ $got == "405 $(stat -c %s "$RUN_DIR/files/part")" || $got == "200 $(stat -c %s "$RUN_DIR/files/part")" ]]
}

# trace FAMILY VIP PORT: traceroute ends at the VIP.
trace() {
  in_ns client traceroute "-$1" -n -q 1 -w 3 -m 4 -p "$3" --udp "$2" >"$RUN_DIR/trace.out" || return
  cat "$RUN_DIR/trace.out"
  awk -v vip="$2" 'NR > 1 { last = $2 } END { exit last != vip }' "$RUN_DIR/trace.out"
}

# refused FAMILY VIP: a datagram to a closed port of a backend comes back as "connection refused".
refused() {
  in_ns client timeout 30 python3 - "$1" "$2" <<'PY'
import socket, sys
s = socket.socket(socket.AF_INET if sys.argv[1] == "4" else socket.AF_INET6, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((sys.argv[2], 54))
for _ in range(3):
    try:
        s.send(b"anybody there?")
        s.recv(100)
    except ConnectionRefusedError:
        print("refused")
        sys.exit(0)
    except TimeoutError:
        pass
sys.exit("no error came")
PY
}

# too_long VIP: a datagram that is longer than the other family's header leaves room for is refused with the size that fits,
# and that one gets through.
too_long() {
  in_ns client timeout 30 python3 - "$1" <<'PY'
import errno, socket, sys, time
DISCOVER, DO, MTU = 10, 2, 14
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, DISCOVER, DO)
s.settimeout(5)
s.connect((sys.argv[1], 53))
s.send(bytes(1472))
for _ in range(50):
    mtu = s.getsockopt(socket.IPPROTO_IP, MTU)
    if mtu < 1500:
        break
    time.sleep(0.1)
print("the path takes", mtu)
# The refusal is the socket's error too.
assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EMSGSIZE
s.send(bytes(1452))
assert len(s.recv(2000)) == 1452 and mtu == 1480
PY
}

all_up() { [[ $(stat_of 'sum(b["health"] == "up" for b in service("to-both")["backends"])') == 3 ]]; }

# both_families: connections of one VIP to backends of each.
both_families() {
  ctl -o jsonl flow --service to-both --limit 10000 >"$RUN_DIR/flows"
  head -n 4 "$RUN_DIR/flows"
  grep -qF "$(backend4 b1):8080" "$RUN_DIR/flows" && grep -qF "[$(backend6 b2)]:8080" "$RUN_DIR/flows"
}

explained() {
  ctl explain tcp "[$NAT_CLIENT6]:40000" "[$TO_V4]:80" >"$RUN_DIR/explained"
  cat "$RUN_DIR/explained"
  grep -q 'translated to IPv4' "$RUN_DIR/explained"
}

test_begin 'full-nat between address families'
blob 5
head -c 300000 /dev/urandom >"$RUN_DIR/files/part"
bed_up two-arm
config >"$LB_CONFIG"
check 'the configuration is accepted' "$SLUICED" --config "$LB_CONFIG" --check
lb_start "$LB_CONFIG"
udp_servers 0.0.0.0 ::

for f in 4 6; do
  if [[ $f == 4 ]]; then vip=$TO_V6 other=6; else vip=$TO_V4 other=4; fi
  scene "IPv$f clients, IPv$other servers"
  check 'HTTP: 300 requests, every backend answers' http_all "$(url "$vip")" 300
  check 'a download of 5 MiB arrives byte for byte' download "$(url "$vip")"
  check 'an upload of 300 kB arrives' upload "$(url "$vip")"
  check 'UDP: datagrams of many lengths come back' udp "$vip" 53 1452 24
  check 'a closed port of a backend is reported to the client' refused "$f" "$vip"
  check 'traceroute ends at the VIP' trace "$f" "$vip" 54
done

check 'datagrams without a checksum get one' udp "$TO_V6" 53 64 4 --no-checksum
check 'a datagram too long for IPv6 is refused with the size that fits' too_long "$TO_V6"

scene 'servers of both families behind one VIP'
check 'HTTP: 300 requests, every backend answers' http_all "$(url "$TO_BOTH")" 300
check 'health checks of both families pass' wait_until 20 all_up
check 'connections are listed with both families' both_families
check 'explain says that the packet is translated' explained

after_all
test_end
