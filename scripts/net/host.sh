#!/usr/bin/env bash
# The host's own traffic: the balancer's kernel has interfaces that stand for the ports, and serves and asks by them, while
# services are balanced; a flood does it no harm, and the interfaces go with the daemon.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

RATE=2000

config() {
  conf_runtime
  conf_ports two-arm |
    sed 's/^name = "wan"/name = "wan"\nhost_interface = "wan0"\nhost_rate = '"$RATE"'/; s/^name = "lan"/name = "lan"\nhost_interface = "lan0"/'
  # shellcheck disable=SC2046  # one word per backend
  {
    conf_service nat4 "$NAT_VIP4" 80 tcp nat round-robin $(conf_backends 4 8080)
    conf_service nat6 "$NAT_VIP6" 80 tcp nat round-robin $(conf_backends 6 8080)
    # On the port's own addresses.
    conf_service own4 10.0.0.2 80 tcp nat round-robin $(conf_backends 4 8080)
    conf_service own6 2001:db8:a::2 80 tcp nat round-robin $(conf_backends 6 8080)
  }
}

# The kernel hears what arrives on the veth below an AF_PACKET port as well as the port does; it must not act on that. (An
# interface that DPDK takes from the kernel has no such problem.) For a packet there, its source would have to be there.
deaf() {
  local dev
  for dev in wan lan; do ns_sysctl lb "net.ipv4.conf.$dev.rp_filter=1" "net.ipv4.conf.$dev.arp_ignore=8"; done
}

# fetch NS URL WORD: an answer with WORD in it.
fetch() {
  local got
  got=$(in_ns "$1" curl -sS --fail --max-time 20 "$2") || return
  echo "$got"
  [[ $got == *$3* ]]
}

# fetch_blob NS URL: a large file, byte for byte.
fetch_blob() {
  local got
  got=$(in_ns "$1" curl -sS --fail --max-time 120 "$2" | sha256sum)
  [[ $got == "$BLOB_SHA256" ]] || { echo "sha256 differs: $got"; return 1; }
}

pings() { in_ns "$1" ping -c 5 -i 0.2 -W 10 "${@:2}"; }

has_address() { ns_ip lb -o address show dev "$1" | grep -F " $2 "; }
has_no_address() { ! has_address "$@"; }
# no_address_is WORD: none of the addresses of wan0 is said to be so.
no_address_is() { ! ns_ip lb address show dev wan0 | grep -E "$1"; }
there() { in_ns lb test -e "/sys/class/net/$1"; }
gone() { ! there "$1"; }
carrier_is() { [[ $(in_ns lb cat "/sys/class/net/$1/carrier") == "$2" ]]; }

# like_port IF PORT: hardware address and MTU of the interface are those of the port, and it is up.
like_port() {
  local mtu
  mtu=$(in_ns lb cat "/sys/class/net/$1/mtu")
  ns_ip lb link show "$1"
  [[ $(mac_of lb "$1") == "$(mac_of lb "$2")" && $mtu == 1500 ]] && ns_ip lb link show "$1" up | grep -q "$1"
}

# host_of PORT KEY: from sluicectl port.
host_of() {
  ctl -o json port | python3 -c 'import json, sys
print(next(p for p in json.load(sys.stdin) if p["name"] == sys.argv[1])["host"][sys.argv[2]])' "$1" "$2"
}

hears_group() {
  daemon_start hear ip netns exec "$(ns lb)" python3 "$NET_DIR/host_talk.py" hear 224.0.0.9 wan0
  wait_until 10 grep -q ready "$RUN_DIR/log/hear.log" || return
  daemon_start tell ip netns exec "$(ns client)" python3 "$NET_DIR/host_talk.py" tell 224.0.0.9 10.0.0.1
  wait_until 15 grep -q hello "$RUN_DIR/log/hear.log"
}

# under_flood: what the kernel gets is bounded by the rate, the rest is counted, and services do not notice.
under_flood() {
  local before after limited dropped begin seconds flood
  before=$(host_of wan punted_packets) begin=$(date +%s%N)
  in_ns client python3 "$NET_DIR/host_talk.py" flood 10.0.0.2 6 >"$RUN_DIR/flood.out" &
  flood=$!
  sleep 0.5
  http_all "$(url "$NAT_VIP4")" 60 || { wait "$flood"; return 1; }
  wait "$flood"
  after=$(host_of wan punted_packets) limited=$(host_of wan limited_packets)
  seconds=$((($(date +%s%N) - begin) / 1000000000 + 2))
  echo "$(cat "$RUN_DIR/flood.out") sent; to the kernel $((after - before)) in less than $seconds s, $limited over the limit"
  # What neighbours say is consumed all the same.
  dropped=$(stat_of 's["drops"]["punt_limit"]')
  ((after > before && after - before <= seconds * RATE && dropped > 0 && dropped <= limited))
}

metrics_show() { curl -sS --unix-socket "$LB_SOCKET" http://sluice/metrics | grep "sluice_port_host_$1{port=\"wan\",interface=\"wan0\"} $2"; }
events_show() { ctl -o jsonl events | grep "\"$1\""; }

# refused PATTERN: sluiced does not start, and says why.
refused() {
  ! in_ns lb timeout 60 "$SLUICED" --config "$LB_CONFIG" >"$RUN_DIR/refused.out" 2>&1 || return 1
  tail -n 3 "$RUN_DIR/refused.out"
  grep -E "$1" "$RUN_DIR/refused.out"
}

test_begin "the host's own traffic"
bed_up two-arm
deaf
blob 3
config >"$LB_CONFIG"

scene 'an interface that is there already'
ns_ip lb tuntap add dev wan0 mode tap
check 'is not taken, and that is said' refused 'port.host_interface: the interface wan0 is there already; use another name'
ns_ip lb tuntap del dev wan0 mode tap
lb_start "$LB_CONFIG"

scene 'the interfaces'
check 'have the hardware address and the MTU of their ports' like_port wan0 wan
check 'each of its own' like_port lan0 lan
for a in 10.0.0.2/24 2001:db8:a::2/64; do check "have the port's address $a" has_address wan0 "$a"; done
check 'no address waits to be found a duplicate' no_address_is tentative
check 'and none is of the kernel'"'"'s own making' no_address_is 'dynamic|mngtmpaddr|stable-privacy'
check 'what becomes of a packet is told' grep -q 'by its interface wan0' <(ctl explain tcp 10.0.0.1:4000 10.0.0.2:22)
daemon_start web ip netns exec "$(ns lb)" python3 -m http.server 8000 --bind :: --directory "$RUN_DIR/files"
echo 'I am the host' >"$RUN_DIR/files/who"
daemon_start outside ip netns exec "$(ns client)" python3 -m http.server 8001 --bind :: --directory "$RUN_DIR/files"
daemon_start echo ip netns exec "$(ns lb)" python3 "$NET_DIR/udp_echo.py" host 5300 10.0.0.2 2001:db8:a::2
wait_until 30 in_ns client curl -sf -o "$RUN_DIR/first" http://10.0.0.1:8001/who || die 'the server of the client did not start'
for f in 4 6; do
  if [[ $f == 4 ]]; then
    own=10.0.0.2 client=10.0.0.1 b=$(backend4 b1) vip=$NAT_VIP4
  else
    own=2001:db8:a::2 client=2001:db8:a::1 b=$(backend6 b1) vip=$NAT_VIP6
  fi
  scene "IPv$f"
  base=$(url "$own")
  check 'a client fetches from the host' wait_until 20 fetch client "$(url "$own" | sed 's,/$,:8000/who,')" 'the host'
  check 'and a large file, byte for byte' fetch_blob client "${base%/}:8000/blob"
  check 'datagrams' udp "$own" 5300 300 20
  check 'a closed port is refused' in_ns client sh -c "curl -sS --max-time 20 ${base%/}:8002/; test \$? = 7"
  check 'the host fetches from a client' fetch lb "$(url "$client" | sed 's,/$,:8001/who,')" 'the host'
  check 'a large file, too, which the limit slows down' fetch_blob lb "$(url "$client" | sed 's,/$,:8001/blob,')"
  check 'and from a backend' fetch lb "$(url "$b" | sed 's,/$,:8080/,')" b1
  check 'the host pings' pings lb "$client"
  check 'the host pings by an identifier of the checks' pings lb -e 65000 "$client"
  check 'and is pinged' pings client "$own"
  check 'a service on another address' http_all "$(url "$vip")" 60
  check "a service on the port's own address goes before" http_all "$(url "$own")" 60
done
check 'a group of routers is heard' hears_group

scene 'a flood'
check 'is bounded, and services go on' under_flood
check 'the host is back at once' fetch client http://10.0.0.2:8000/who 'the host'
check 'sluicectl port shows it' grep -E 'host: wan0: [1-9][0-9]* packets to the kernel, [1-9][0-9]* over the limit of 2000/s' <(ctl port)
check 'so do the metrics' metrics_show limited_packets_total '[1-9]'

scene 'changes'
sed 's/"10.0.0.2\/24"/"10.0.0.2\/24", "10.0.0.7\/24"/; s/^host_rate.*/host_rate = 5000/' "$LB_CONFIG" >"$RUN_DIR/more.toml"
check 'another address' ctl config apply "$RUN_DIR/more.toml"
check 'is the host'"'"'s, too' wait_until 10 has_address wan0 10.0.0.7/24
check 'and serves' wait_until 10 fetch client http://10.0.0.7:8000/who 'the host'
check 'another rate' test "$(host_of wan rate)" = 5000
check 'back again' ctl config apply "$LB_CONFIG"
check 'it is gone' wait_until 10 has_no_address wan0 10.0.0.7/24
sed 's/"wan0"/"wan9"/' "$LB_CONFIG" >"$RUN_DIR/other.toml"
check 'another name needs a restart' grep -q 'port.host_interface: this cannot change' <(ctl config apply "$RUN_DIR/other.toml" 2>&1 || true)
ns_ip lan link set to-lb down
check 'a cable that is out' wait_until 10 carrier_is lan0 0
ns_ip lan link set to-lb up
check 'and in again' wait_until 10 carrier_is lan0 1
ns_ip lb link del wan0
check 'an interface that somebody took away' wait_until 10 events_show host_interface_lost
check 'comes back' wait_until 15 has_address wan0 10.0.0.2/24
check 'and serves' wait_until 15 fetch client http://10.0.0.2:8000/who 'the host'
after_all

scene 'the end'
kill -KILL "$LB_PID"
check 'killed, the daemon takes its interfaces along' wait_until 10 gone wan0
check 'both' gone lan0
lb_start "$LB_CONFIG"
check 'and makes them again' there wan0
lb_stop || true
check 'stopped, likewise' gone wan0
LB_PID=''
bed_down
test_end
