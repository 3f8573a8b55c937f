#!/usr/bin/env bash
# dsr through tunnels: IPIP, GUE in both variants and GRE, each family over each, with real TCP and UDP.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

KINDS=(ipip gue1 gue0 gre)

# vip KIND-NUMBER INNER OUTER: one VIP for each combination, on the dsr subnets of topology.sh.
vip() {
  local last=$((20 + 2 * $1 + ($3 == 6)))
  if [[ $2 == 4 ]]; then echo "192.0.2.$last"; else echo "2001:db8:f2::$last"; fi
}

# each CMD...: CMD KIND-NUMBER KIND INNER OUTER VIP for every combination.
each() {
  local n inner outer
  for n in "${!KINDS[@]}"; do
    for inner in 4 6; do
      for outer in 4 6; do "$@" "$n" "${KINDS[n]}" "$inner" "$outer" "$(vip "$n" "$inner" "$outer")" || return; done
    done
  done
}

conf_tunnel() {
  local kind=$2 inner=$3 outer=$4 vip=$5 backends protocol port
  local -a keys=("tunnel = \"${kind%[01]}\"" "tunnel_sources = [\"10.1.0.64/30\", \"2001:db8:b::64/126\"]")
  case $kind in gue1) keys+=('gue_variant = 1') ;; gue0) keys+=('gue_variant = 0') ;; esac
  local check
  for protocol in tcp udp; do
    if [[ $protocol == tcp ]]; then port=80 check=http; else port=5300 check=udp; fi
    mapfile -t backends < <(conf_backends "$outer" "$port")
    conf_service "$kind-${inner}in$outer-$protocol" "$vip" "$port" "$protocol" dsr round-robin "${backends[@]}" |
      sed -e "s|^mode = .*|&\n$(printf '%s\\n' "${keys[@]}")|" -e "0,/^\[\[service.backend/s//$(conf_health "$check")\n&/"
  done
}

# conf_health TYPE: [service.health], its lines separated by "\n".
conf_health() {
  local lines
  printf -v lines '%s\\n' '[service.health]' "type = \"$1\"" 'interval = "500ms"' 'timeout = "400ms"' 'rise = 1' 'fall = 2'
  if [[ $1 == udp ]]; then lines+='payload = "well?"\n'; fi
  echo "${lines%\\n}"
}

# far_ends: on every backend all VIPs and a decapsulator.
far_ends() {
  local b
  for b in "${BACKENDS[@]}"; do
    daemon_start "decapsulate-$b" ip netns exec "$(ns "$b")" python3 "$NET_DIR/decapsulate.py" decap0
    wait_until 30 grep -q ready "$RUN_DIR/log/decapsulate-$b.log" || die "the decapsulator did not start on $b"
    DECAPSULATORS[$b]=$DAEMON_PID
    ns_ip "$b" link set decap0 up mtu 9000
  done
  each vip_on_backends
}
vip_on_backends() {
  local b
  for b in "${BACKENDS[@]}"; do
    # Two of them are there already.
    address "$b" lo "$5/$([[ $3 == 4 ]] && echo 32 || echo 128)" 2>/dev/null || true
  done
}

# states: how many backends of a service have passed a check, as a list of all numbers that occur.
states() { stat_of "sorted({sum(b['health'] == 'up' and b['health_checked'] and not b['health_detail'] for b in v['backends']) for v in s['services']})"; }
up_everywhere() {
  local got
  got=$(states)
  echo "backends up, by service: $got"
  [[ $got == "[$1]" ]]
}
becomes_up() { wait_until 20 up_everywhere "$1" || { up_everywhere "$1"; return 1; }; }

http_one() { check "$2, IPv$3 over IPv$4: 60 requests reach all backends" http_all "$(url "$5")" 60; }
udp_one() { check "$2, IPv$3 over IPv$4: 1 to 1372 bytes come back from the VIP, 24 flows" udp "$5" 5300 1372 24; }

# Every kind arrived in its own form, and from more than one of the outer source addresses.
all_kinds_seen() {
  local n=0 kind inner outer
  for kind in "${KINDS[@]}"; do
    for inner in 4 6; do
      for outer in 4 6; do
        n=$(cat "$RUN_DIR"/log/decapsulate-*.log | grep "^$kind ${inner}in$outer from " | sort -u | wc -l)
        echo "$kind ${inner}in$outer: $n outer sources"
        ((n > 1)) || return 1
      done
    done
  done
  ! cat "$RUN_DIR"/log/decapsulate-*.log | grep 'not delivered'
}

declare -A DECAPSULATORS

test_begin 'dsr through tunnels'
scene two-arm
bed_up two-arm
{
  conf_runtime
  conf_ports two-arm
  each conf_tunnel
} >"$LB_CONFIG"
far_ends
mapfile -t VIPS < <(each echo | awk '{ print $5 }')
udp_servers "${VIPS[@]}"
lb_start "$LB_CONFIG"
check 'checks of all 32 services pass, through their tunnels' becomes_up 3
each http_one
each udp_one
check 'each kind arrived as what it is, from several outer addresses' all_kinds_seen
check 'IPv4 over GRE: datagrams without a checksum come back' udp "$(vip 3 4 4)" 5300 64 4 --no-checksum
check 'IPv4 over GUE over IPv6: datagrams without a checksum come back' udp "$(vip 1 4 6)" 5300 64 4 --no-checksum
daemon_stop "${DECAPSULATORS[b1]}" || true
check 'without the end of its tunnels a backend is down' becomes_up 2
after_all
bed_down
test_end
