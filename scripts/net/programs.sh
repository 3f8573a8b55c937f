#!/usr/bin/env bash
# Real programs in every mode: long downloads, long UDP sessions, and DNS with answers in fragments.
#
# Fragments pass the balancer as such on AF_XDP ports only: AF_PACKET puts them together before it sees them.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

SECONDS_LONG=15
KINDS=(ipip gue1 gue0 gre)

# vip MODE FAMILY: on the nat and dsr subnets of topology.sh.
vip() {
  local last
  case $1 in nat) last=10 ;; full-nat) last=12 ;; dsr) last=20 ;; ipip) last=22 ;; gue1) last=24 ;; gue0) last=26 ;; gre) last=28 ;; esac
  if [[ $2 == 4 ]]; then
    echo "192.0.2.$last"
  elif [[ $1 == *nat ]]; then
    echo "2001:db8:f1::$last"
  else
    echo "2001:db8:f2::$last"
  fi
}

MODES=(nat full-nat dsr "${KINDS[@]}")

# outer FAMILY: tunnels cross over to the other one; tunnel.sh has all combinations.
outer() { echo $((10 - $1)); }

# conf_mode MODE FAMILY: HTTP, an echo server and DNS; one backend each for what is long.
conf_mode() {
  local mode=$1 f=$2 at=$2 vip keys='' form=dsr http=80
  vip=$(vip "$mode" "$f")
  case $mode in
    nat | full-nat) form=$mode http=8080 ;;
    dsr) ;;
    *) at=$(outer "$f") keys="tunnel = \"${mode%[01]}\"" ;;
  esac
  case $mode in gue1) keys+='\ngue_variant = 1' ;; gue0) keys+='\ngue_variant = 0' ;; esac
  local -a http_at echo_at dns_at
  mapfile -t http_at < <(conf_backends "$at" "$http")
  mapfile -t echo_at < <(conf_backends "$at" 5300)
  mapfile -t dns_at < <(conf_backends "$at" 53)
  {
    conf_service "$mode-$f-http" "$vip" 80 tcp "$form" maglev "${http_at[@]}"
    conf_service "$mode-$f-echo" "$vip" 5300 udp "$form" maglev "${echo_at[@]}"
    conf_service "$mode-$f-dns" "$vip" 53 udp "$form" round-robin "${dns_at[@]}"
  } | sed -e "s|^mode = .*|&\n$keys|"
}

# config af_packet|af_xdp
config() {
  local mode f
  conf_runtime
  conf_ports two-arm | sed "s/net_af_packet/net_$1/"
  for mode in "${MODES[@]}"; do
    for f in 4 6; do conf_mode "$mode" "$f"; done
  done
}

# far_ends: on every backend the VIPs of dsr, the end of its tunnels, the echo server, and dnsmasq.
far_ends() {
  local b mode f vips=()
  for mode in dsr "${KINDS[@]}"; do
    for f in 4 6; do vips+=("$(vip "$mode" "$f")"); done
  done
  for b in "${BACKENDS[@]}"; do
    daemon_start "decapsulate-$b" ip netns exec "$(ns "$b")" python3 "$NET_DIR/decapsulate.py" decap0
    wait_until 30 grep -q ready "$RUN_DIR/log/decapsulate-$b.log" || die "the decapsulator did not start on $b"
    ns_ip "$b" link set decap0 up mtu 9000
    # Some are there already.
    for f in "${vips[@]}"; do
      case $f in *:*) address "$b" lo "$f/128" ;; *) address "$b" lo "$f/32" ;; esac 2>/dev/null || true
    done
    daemon_start "dns-$b" ip netns exec "$(ns "$b")" dnsmasq --keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv \
      --user=root --pid-file= --log-facility=- --port=53 --edns-packet-max=4096 --local=/test/ "--txt-record=big.test,$BIG" \
      "--txt-record=small.test,little"
  done
  # dsr answers from the address that was asked.
  udp_servers 0.0.0.0 :: "${vips[@]}"
}

# A record of 12 strings of 240 letters: an answer of some 2,930 bytes.
big_record() {
  local n
  for n in {a..l}; do printf '%s,' "$(printf "$n%.0s" {1..240})"; done | sed 's/,$//'
}

# dns VIP: the answer comes in one UDP message, whole, and is the right one.
dns() {
  local out=$RUN_DIR/dig.out
  in_ns client dig "@$1" big.test TXT +bufsize=4096 +ignore +notcp +tries=1 +time=10 +norecurse >"$out" || { cat "$out"; return 1; }
  local got
  got=$(awk '/\tTXT\t/ { sub(/.*\tTXT\t/, ""); gsub(/" "/, ","); gsub(/"/, ""); print }' "$out")
  grep -E 'SERVER|MSG SIZE' "$out"
  grep -q 'flags:.* tc' "$out" && { echo 'the answer was truncated'; return 1; }
  [[ $got == "$BIG" ]] || { echo "the answer differs: ${got:0:60}"; return 1; }
}

dns_all() {
  local n
  for n in {1..6}; do dns "$1" || return; done
}

# fragments_passed: the balancer saw them as such.
fragments_passed() {
  local n
  n=$(in_ns client nstat -asz IpReasmOKs Ip6ReasmOKs | awk '/ReasmOKs/ { n += $2 } END { print n + 0 }')
  echo "the client put $n datagrams together"
  ((n > 100))
}

# Sessions run while other checks are made.
declare -A SESSIONS
session_start() {
  local name=$1
  shift
  in_ns client timeout 120 python3 "$NET_DIR/udp_session.py" "$@" >"$RUN_DIR/session-$name.out" 2>&1 &
  SESSIONS[$name]=$!
}
session_check() {
  local status=0
  wait "${SESSIONS[$1]}" || status=$?
  cat "$RUN_DIR/session-$1.out"
  return "$status"
}

test_begin 'programs in every mode'
blob 100
BIG=$(big_record)

scene 'AF_PACKET: downloads beside UDP sessions'
bed_up two-arm
config af_packet >"$LB_CONFIG"
far_ends
lb_start "$LB_CONFIG"
for mode in "${MODES[@]}"; do
  for f in 4 6; do session_start "$mode-$f" "$(vip "$mode" $f)" 5300 "$SECONDS_LONG" 1300 --loss 2; done
done
# nat-tcp.sh and dsr-tcp.sh have those of nat and of dsr without a tunnel.
for mode in full-nat "${KINDS[@]}"; do
  for f in 4 6; do check "$mode, IPv$f: 100 MiB arrive byte for byte" download "$(url "$(vip "$mode" $f)")"; done
done
for mode in "${MODES[@]}"; do
  for f in 4 6; do check "$mode, IPv$f: a UDP session of $SECONDS_LONG s gets across whole and keeps its backend" session_check "$mode-$f"; done
done
after_all
bed_down

scene 'AF_XDP: datagrams in fragments'
bed_up two-arm
config af_xdp >"$LB_CONFIG"
far_ends
lb_start "$LB_CONFIG"
for f in 4 6; do
  for mode in nat full-nat dsr; do session_start "$mode-$f" "$(vip "$mode" $f)" 5300 5 4000 --loss 2; done
  # The first one that is too long for the tunnel says so.
  for mode in "${KINDS[@]}"; do session_start "$mode-$f" "$(vip "$mode" $f)" 5300 5 4000 --resends 40 --loss 2; done
done
for mode in "${MODES[@]}"; do
  for f in 4 6; do
    check "$mode, IPv$f: six DNS answers of 2.9 kB arrive whole, in one UDP message each" dns_all "$(vip "$mode" $f)"
  done
done
for mode in "${MODES[@]}"; do
  for f in 4 6; do check "$mode, IPv$f: datagrams up to 4,000 bytes in both directions" session_check "$mode-$f"; done
done
check 'they came as fragments' fragments_passed
after_all
bed_down
test_end
