#!/usr/bin/env bash
# A router on a stick: clients on VLAN 100 and backends on VLAN 200 of one device, IPv4 and IPv6, HTTP, UDP and ping.
#
#   client eth0 (100) ──┐
#       b1..b3 eth0 (200) ──┤ bridge ── lan lb
#
# The bridge knows no VLANs: it carries tagged frames as any others. Hosts have sub-interfaces of the kernel's where it has
# them, and else a tap device with vlan_host.py in between.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

VIP4=10.0.0.100 VIP6=2001:db8:a::100

# host NAME VLAN ADDRESS...: a host on the bridge whose addresses are on a VLAN; sets DEV to that interface.
host() {
  local name=$1 vlan=$2
  shift 2
  ns_add "$name"
  wire "$name" eth0 lan "to-$name"
  silent "$name" eth0
  DEV=vlan$vlan
  if [[ $KERNEL_VLANS == yes ]]; then
    ns_ip "$name" link add link eth0 name "$DEV" type vlan id "$vlan"
    offloads_off "$name" "$DEV"
    ns_ip "$name" link set "$DEV" up
  else
    daemon_start "vlan-$name" ip netns exec "$(ns "$name")" python3 "$NET_DIR/vlan_host.py" eth0 "$vlan"
    HELPERS+=("$name $DAEMON_PID")
    wait_until 30 grep -q ready "$RUN_DIR/log/vlan-$name.log" || die "the tap of $name did not come up"
  fi
  address "$name" "$DEV" "$@"
}

network_up() {
  local b ports=(to-lb to-client) HOSTS=(client "${BACKENDS[@]}")
  ns_add lb
  ns_add lan
  wire lb lan lan to-lb
  silent lb lan
  ns_ip lan link add name probe0 type veth peer name probe1
  if ns_ip lan link add link probe0 name probe.1 type vlan id 1 2>/dev/null; then KERNEL_VLANS=yes; fi
  ns_ip lan link del probe0
  host client 100 10.0.0.1/24 2001:db8:a::1/64
  for b in "${BACKENDS[@]}"; do
    host "$b" 200 "$(backend4 "$b")/24" "$(backend6 "$b")/64"
    route "$b" default via 10.1.0.1
    route "$b" ::/0 via 2001:db8:b::1
    ports+=("to-$b")
  done
  bridge_add lan br0 "${ports[@]}"
  wait_until 30 links_up "${HOSTS[@]}" || die 'the links of the test network did not come up'
}

# A tap's state is "unknown" or "up".
links_up() {
  local name
  links_ready lb lan || return 1
  for name in "$@"; do
    [[ $(in_ns "$name" cat /sys/class/net/eth0/operstate) == up ]] || return 1
  done
}

configuration() {
  local f vip
  conf_runtime
  cat <<CONF

[[port]]
name = "lan"
device = "net_af_packet0,iface=lan"

[[port]]
name = "lan.100"
parent = "lan"
vlan = 100
addresses = ["10.0.0.2/24", "2001:db8:a::2/64"]

[[port]]
name = "lan.200"
parent = "lan"
vlan = 200
addresses = ["10.1.0.1/24", "2001:db8:b::1/64"]
CONF
  for f in 4 6; do
    if [[ $f == 4 ]]; then vip=$VIP4; else vip=$VIP6; fi
    # shellcheck disable=SC2046  # one word per backend
    conf_service "web$f" "$vip" 80 tcp nat maglev $(conf_backends $f 8080)
    printf '[service.health]\ntype = "tcp"\ninterval = "500ms"\ntimeout = "400ms"\n'
    # shellcheck disable=SC2046
    conf_service "full$f" "$vip" 81 tcp full-nat maglev $(conf_backends $f 8080)
    # shellcheck disable=SC2046
    conf_service "udp$f" "$vip" 53 udp nat maglev $(conf_backends $f 5300)
  done
}

pings() { in_ns "$1" ping -c 3 -i 0.2 -W 10 "$2"; }
deaf() { ! in_ns "$1" ping -c 1 -W 2 "$2"; }

# The largest segment both ways: 1500 bytes of packet, 1518 of frame.
full_size() { in_ns client ping -c 3 -i 0.2 -W 10 -M "do" -s "$2" "$1"; }

ports_say_it() {
  local out
  out=$(ctl port) || return
  echo "$out"
  grep -q 'vlan: 100 on lan' <<<"$out" && grep -q 'vlan: 200 on lan' <<<"$out"
}

# Counted by VLAN, and by the device together.
counters_add_up() {
  ctl -o json port | python3 -c '
import json, sys
ports = {port["name"]: port for port in json.load(sys.stdin)}
count = lambda name, key: ports[name]["counters"][key]
print({name: ports[name]["counters"] for name in ports})
assert (ports["lan.100"]["parent"], ports["lan.100"]["vlan"], ports["lan"].get("vlan")) == ("lan", 100, None)
assert ports["lan.100"]["mac"] == ports["lan"]["mac"]
for key in ("rx_packets", "tx_packets"):
    parts = [count(name, key) for name in ("lan.100", "lan.200")]
    assert min(parts) > 100 and sum(parts) <= count("lan", key), (key, parts)
'
}

explains() {
  local out
  out=$(ctl explain tcp 10.0.0.1:40000 "$VIP4:80") || return
  echo "$out"
  grep -q 'by port lan.200 tagged 200' <<<"$out"
}

all_up() { [[ $(stat_of 'sum(b["health"] == "up" and b["health_checked"] for v in ("web4", "web6") for b in service(v)["backends"])') == 6 ]]; }

# What must not pass is counted for its reason. The frames are addressed to the balancer.
hostile_frames() {
  local mac
  mac=$(mac_of lb lan)
  in_ns client python3 - "$mac" <<'PY' || return
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
head = bytes.fromhex(sys.argv[1].replace(":", "")) + wire.getsockname()[4]
for tags in ("8100012c", "810000648100012c", "8100006488a8012c", "88a800648100012c"):
    for _ in range(5):
        wire.send(head + bytes.fromhex(tags) + b"\x08\x00" + bytes(46))
PY
  wait_until 10 hostile_counted
}
hostile_counted() {
  stat_of '{name: count for name, count in s["drops"].items() if count}'
  [[ $(stat_of 's["drops"]["vlan_unknown"] >= 5 and s["drops"]["vlan_nested"] >= 15') == True ]]
}

# Nobody got a frame for itself without a tag or with that of the other VLAN, or with a priority.
no_strays() {
  local name pid
  for each in "${HELPERS[@]}"; do
    read -r name pid <<<"$each"
    kill -USR1 "$pid" || return
    wait_until 10 grep -q stray "$RUN_DIR/log/vlan-$name.log" || return
    grep stray "$RUN_DIR/log/vlan-$name.log" | tail -n 1 | tee "$RUN_DIR/strays"
    grep -q 'stray 0 priorities \[0\]' "$RUN_DIR/strays" || return
  done
}

KERNEL_VLANS=no HELPERS=()
test_begin 'VLANs: clients and backends on two VLANs of one device'
network_up
for b in "${BACKENDS[@]}"; do nginx_start "$b"; done
udp_servers 0.0.0.0 ::
configuration >"$LB_CONFIG"
lb_start "$LB_CONFIG"

scene "sub-interfaces; hosts with $(if [[ $KERNEL_VLANS == yes ]]; then echo 'VLANs of the kernel'; else echo 'tap devices'; fi)"
check 'ping of the address on VLAN 100 (IPv4)' pings client 10.0.0.2
check 'ping of the address on VLAN 100 (IPv6)' pings client 2001:db8:a::2
check 'ping of the address on VLAN 200 (IPv4)' pings b1 10.1.0.1
check 'ping of the address on VLAN 200 (IPv6)' pings b2 2001:db8:b::1
check 'ping of the link-local address on VLAN 200' pings b3 "$(python3 -c 'import sys; m = bytes.fromhex(sys.argv[1].replace(":", "")); print("fe80::%02x%02x:%02xff:fe%02x:%02x%02x" % (m[0] ^ 2, *m[1:]))' "$(mac_of lb lan)")%vlan200"
check 'a full-sized packet and its answer (IPv4)' full_size 10.0.0.2 1472
check 'a full-sized packet and its answer (IPv6)' full_size 2001:db8:a::2 1452
check 'health checks pass on VLAN 200' wait_until 30 all_up
check 'HTTP from VLAN 100 to VLAN 200 (IPv4)' http_all "$(url $VIP4)" 200
check 'HTTP from VLAN 100 to VLAN 200 (IPv6)' http_all "$(url $VIP6)" 200
check 'HTTP with full-nat (IPv4)' http_all "http://$VIP4:81/" 60
check 'HTTP with full-nat (IPv6)' http_all "http://[$VIP6]:81/" 60
blob 4
check 'a download is whole (IPv4)' download "$(url $VIP4)"
check 'a download is whole (IPv6)' download "$(url $VIP6)"
check 'UDP of every size (IPv4)' udp $VIP4 53 1472 12
check 'UDP of every size (IPv6)' udp $VIP6 53 1452 12
check 'sluicectl port shows parent and VLAN' ports_say_it
check 'packets are counted by VLAN' counters_add_up
check 'explain says how it leaves' explains
check 'unknown and nested tags are dropped, each for its reason' hostile_frames
if [[ $KERNEL_VLANS == no ]]; then check 'every frame had its VLAN and no priority' no_strays; fi
after_all
lb_stop

scene 'all of the device on one VLAN'
{
  conf_runtime
  cat <<CONF

[[port]]
name = "lan"
device = "net_af_packet0,iface=lan"
vlan = 200
addresses = ["10.1.0.1/24", "2001:db8:b::1/64"]
CONF
  conf_service full "$LAN_VIP4" 80 tcp full-nat maglev "$(backend4 b2):8080" "$(backend4 b3):8080"
} >"$LB_CONFIG"
lb_start "$LB_CONFIG"
check 'ping of the address on the VLAN' pings b1 10.1.0.1
check 'HTTP on the VLAN' in_ns b1 curl -sS --fail --max-time 20 "$(url "$LAN_VIP4")"
ns_ip client address add 10.1.0.9/24 dev vlan100
check 'nothing on another VLAN' deaf client 10.1.0.1
check 'both conservation equations hold' conservation
check 'no panic in the log' no_panic
test_end
