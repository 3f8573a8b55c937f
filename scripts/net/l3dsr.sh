#!/usr/bin/env bash
# L3DSR: backends that know the VIP by the DSCP put it back with nftables, without state, before anything else looks at a packet.
# Fragments are not here: AF_PACKET puts them together before the balancer sees them. They are among the golden packets.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

declare -A VIPS=([4]=192.0.2.20 [6]=2001:db8:f2::20) OTHERS=([4]=192.0.2.30 [6]=2001:db8:f2::30)

# backend_maps BACKEND: DSCP 5 is the first VIP, 6 the other, in both families; whatever came has been counted.
backend_maps() {
  local f own family
  ns_ip "$1" link set lo up
  for f in 4 6; do
    if [[ $f == 4 ]]; then own=$(backend4 "$1") family=ip; else own=$(backend6 "$1") family=ip6; fi
    # Two of them are there already.
    address "$1" lo "${VIPS[$f]}/$([[ $f == 4 ]] && echo 32 || echo 128)" 2>/dev/null || true
    address "$1" lo "${OTHERS[$f]}/$([[ $f == 4 ]] && echo 32 || echo 128)" 2>/dev/null || true
    in_ns "$1" nft -f - <<NFT
add table $family l3dsr
add chain $family l3dsr pre { type filter hook prerouting priority raw; }
add rule $family l3dsr pre $family daddr $own $family dscp 5 counter $family daddr set ${VIPS[$f]}
add rule $family l3dsr pre $family daddr $own $family dscp 6 counter $family daddr set ${OTHERS[$f]}
NFT
  done
}

conf_l3dsr() {
  local f protocol port name vip dscp check backends
  for f in 4 6; do
    mapfile -t backends < <(conf_backends "$f" 80)
    for name in first other; do
      if [[ $name == first ]]; then vip=${VIPS[$f]} dscp=5; else vip=${OTHERS[$f]} dscp=6; fi
      for protocol in tcp udp; do
        if [[ $protocol == tcp ]]; then port=80 check=http; else port=5300 check=udp; fi
        mapfile -t backends < <(conf_backends "$f" "$port")
        conf_service "$name$f-$protocol" "$vip" "$port" "$protocol" dsr round-robin "${backends[@]}" |
          sed -e "s|^mode = .*|&\ntunnel = \"l3dsr\"\ndscp = $dscp|" -e "0,/^\[\[service.backend/s//$(conf_health "$check")\n&/"
      done
    done
  done
}

# conf_health TYPE: [service.health], its lines separated by "\n".
conf_health() {
  local lines
  printf -v lines '%s\\n' '[service.health]' "type = \"$1\"" 'interval = "500ms"' 'timeout = "400ms"' 'rise = 1' 'fall = 2'
  if [[ $1 == udp ]]; then lines+='payload = "well?"\n'; fi
  echo "${lines%\\n}"
}

# up_everywhere COUNT: so many backends of every service have passed a check.
up_everywhere() {
  local got
  got=$(stat_of "sorted({sum(b['health'] == 'up' and b['health_checked'] and not b['health_detail'] for b in v['backends']) for v in s['services']})")
  echo "backends up, by service: $got"
  [[ $got == "[$1]" ]]
}
becomes_up() { wait_until 20 up_everywhere "$1" || { up_everywhere "$1"; return 1; }; }

# Every rule of every backend has seen packets: nothing arrived for the VIP itself.
all_mapped() {
  local b rules
  for b in "${BACKENDS[@]}"; do
    rules=$(in_ns "$b" nft list ruleset | grep -c 'counter packets [1-9]')
    echo "$b: $rules rules have seen packets"
    [[ $rules == 4 ]] || return 1
  done
}

test_begin 'L3DSR'
blob 20
for topology in two-arm one-arm; do
  scene "$topology"
  bed_up "$topology"
  {
    conf_runtime
    conf_ports "$topology"
    conf_l3dsr
  } >"$LB_CONFIG"
  for b in "${BACKENDS[@]}"; do backend_maps "$b"; done
  udp_servers "${VIPS[@]}" "${OTHERS[@]}"
  lb_start "$LB_CONFIG"
  check 'checks of all 8 services pass, by way of the DSCP' becomes_up 3
  for f in 4 6; do
    for vip in "${VIPS[$f]}" "${OTHERS[$f]}"; do
      check "60 requests to $vip reach all backends" http_all "$(url "$vip")" 60
      check "20 MiB from $vip arrive byte for byte" download "$(url "$vip")"
    done
    check "IPv$f: 1 to $((f == 4 ? 1472 : 1452)) bytes come back from the VIP, 24 flows" udp "${VIPS[$f]}" 5300 $((f == 4 ? 1472 : 1452)) 24
  done
  check 'IPv4: datagrams without a checksum come back' udp "${VIPS[4]}" 5300 64 4 --no-checksum
  check 'backends knew every VIP by its DSCP' all_mapped
  in_ns b1 nft flush ruleset
  check 'a backend that does not map is down' becomes_up 2
  after_all
  bed_down
done
test_end
