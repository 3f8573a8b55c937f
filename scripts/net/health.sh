#!/usr/bin/env bash
# Health checks through the ports: backends that die, hang, talk nonsense; who is used then, and what is said about it.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# Checks every 200 ms; down after 2 that failed, up after 2 that passed.
# conf_health TYPE [LINE...]: [service.health] of the service above; before its backends.
conf_health() {
  printf '[service.health]\ntype = "%s"\ninterval = "200ms"\ntimeout = "150ms"\nrise = 2\nfall = 2\n' "$1"
  shift
  (($# == 0)) || printf '%s\n' "$@"
}

# checked NAME VIP PORTS PROTOCOL MODE HEALTH BACKEND...; HEALTH is a type, then lines, separated by "|".
checked() {
  local -a head=("${@:1:5}") health backends=("${@:7}")
  IFS='|' read -ra health <<<"$6"
  conf_service "${head[@]}" maglev
  conf_health "${health[@]}"
  local backend
  for backend in "${backends[@]}"; do printf '[[service.backend]]\naddress = "%s"\n' "$backend"; done
}

# shellcheck disable=SC2046  # one word per backend
conf_checked() {
  conf_runtime
  conf_ports two-arm
  checked nat4 "$NAT_VIP4" 80 tcp nat 'http|path = "/"|body = "b"' $(conf_backends 4 8080)
  checked nat6 "$NAT_VIP6" 80 tcp nat tcp $(conf_backends 6 8080)
  checked dsr4 "$DSR_VIP4" 80 tcp dsr http $(conf_backends 4 80)
  checked dsr6 "$DSR_VIP6" 80 tcp dsr http $(conf_backends 6 80)
  checked udp4 "$NAT_VIP4" 53 udp nat 'udp|payload = "hello"|expect = "hello"' $(conf_backends 4 5300)
  checked udp6 "$DSR_VIP6" 5300 udp dsr 'udp|payload = "hello"' $(conf_backends 6 5300)
  checked icmp4 "$NAT_VIP4" 82 tcp nat icmp $(conf_backends 4 8080)
  checked icmp6 "$DSR_VIP6" 82 tcp dsr icmp $(conf_backends 6 82)
}

# health SERVICE ADDRESS: "up" or "down (why)".
health() {
  stat_of "(lambda b: b['health'] + (' (' + b['health_detail'] + ')' if b['health'] == 'down' else ''))(backend('$1', '$2'))"
}
health_is() {
  local got
  got=$(health "$1" "$2")
  echo "$1 $2: $got"
  # shellcheck disable=SC2053  # a pattern
  [[ $got == $3 ]]
}
becomes() { wait_until 15 health_is "$@" || { health_is "$@"; return 1; }; }

every_backend_is_up() {
  [[ $(stat_of "all(b['health'] == 'up' and b['health_checked'] and b['health_detail'] == '' for v in s['services'] for b in v['backends'])") == True ]]
}
all_up() { wait_until 20 every_backend_is_up || { ctl backend; return 1; }; }

# nginx_pid BACKEND: of its worker, the one that answers.
nginx_pid() { pgrep -P "$(cat "$RUN_DIR/nginx-$1/nginx.pid")"; }

# nginx_kill BACKEND: as a crash would; a shell reports the death of its child.
nginx_kill() {
  local master worker
  master=$(cat "$RUN_DIR/nginx-$1/nginx.pid") worker=$(nginx_pid "$1")
  # The master first: it would replace the worker.
  kill -KILL "$master" "$worker"
  { wait "$master" || true; } 2>/dev/null
}

# without B VIP: 120 new connections, all served, none by B.
without() {
  local out=$RUN_DIR/without.out
  : >"$out"
  http_requests client "$(url "$2")" 120 "$out"
  echo "$(http_failed "$out" 120) failed; $(http_spread "$out")"
  [[ $(http_failed "$out" 120) == 0 ]] && ! grep -q "^$1 " "$out"
}

# slow_start_weight LOW HIGH: what b1 has of its weight.
slow_start_weight() {
  local got
  got=$(ctl -o json backend list nat4 | python3 -c 'import json, sys; print(json.load(sys.stdin)[0].get("slow_start_weight", 100))')
  echo "weight $got"
  ((got >= $1 && got <= $2))
}

# share B LOW HIGH: B gets between LOW and HIGH of 400 new connections.
share() {
  local out=$RUN_DIR/share.out n
  : >"$out"
  http_requests client "$(url "$NAT_VIP4")" 400 "$out"
  n=$(grep -c "^$1 " "$out" || true)
  echo "$(http_failed "$out" 400) failed; $(http_spread "$out")"
  [[ $(http_failed "$out" 400) == 0 ]] && ((n >= $2 && n <= $3))
}

# panics SERVICE: it uses backends that are down, in the list and among the notices.
panics() {
  ctl -o json service "$1" | python3 -c 'import json, sys; sys.exit(not json.load(sys.stdin)["panic"])' &&
    ctl status | grep "service \"$1\": 0 of 3 backends are up"
}

# probes_ask B WHAT: what arrives at B matches a filter of tcpdump, within a few checks.
probes_ask() {
  in_ns "$1" timeout 10 tcpdump -c 3 -n -i eth0 "$2"
}

# few_failed MOST: of the traffic, not more than that, all of them refused or cut off.
few_failed() {
  local count failed
  count=$(wc -l <"$TRAFFIC_OUT")
  failed=$(http_failed "$TRAFFIC_OUT" "$count")
  echo "$failed of $count requests failed; spread: $(http_spread "$TRAFFIC_OUT")"
  awk '$2 != 200 || $3 != 0' "$TRAFFIC_OUT" | sort | uniq -c
  ((failed <= $1 && count > failed + 100)) && ! awk '$3 == 28 { late++ } END { exit !late }' "$TRAFFIC_OUT"
}

b1=$(backend4 b1):8080 b2=$(backend4 b2):8080

test_begin 'health checks'
bed_up two-arm
udp_servers 0.0.0.0 "$DSR_VIP6"
UDP_B1=$(awk '$3 == "udp-b1" { print $1 }' "$RUN_DIR/pids")
conf_checked >"$LB_CONFIG"
lb_start "$LB_CONFIG"

scene 'every type, nat and dsr, IPv4 and IPv6'
check 'all backends come up, by all checks' all_up
check 'nat: the backend is asked, from the port, by a port for checks' \
  probes_ask b1 "src host 10.1.0.1 and dst host 10.1.0.11 and tcp[2:2] = 8080 and tcp[0:2] >= 64512"
check 'dsr: the VIP is asked on the backend' \
  probes_ask b1 "src host 10.1.0.1 and dst host $DSR_VIP4 and ether dst $(mac_of b1 eth0) and tcp[2:2] = 80"
check 'dsr, IPv6: likewise' probes_ask b3 "src host 2001:db8:b::1 and dst host $DSR_VIP6 and ether dst $(mac_of b3 eth0)"
check 'echo requests carry what only checks carry' probes_ask b2 'icmp[0] = 8 and icmp[4:2] >= 64512'
for vip in "$NAT_VIP4" "$NAT_VIP6" "$DSR_VIP4" "$DSR_VIP6"; do
  check "$vip serves from all backends" http_all "$(url "$vip")" 90
done

scene 'a dsr backend that loses the VIP'
ns_ip b2 address del "$DSR_VIP4/32" dev lo
check 'is down there' becomes dsr4 "$(backend4 b2):80" 'down (*)'
check 'and up where it is asked itself' health_is nat4 "$b2" up
check 'clients are served by the others' without b2 "$DSR_VIP4"
ns_ip b2 address add "$DSR_VIP4/32" dev lo
check 'it comes back' becomes dsr4 "$(backend4 b2):80" up

scene 'a backend that is killed under load'
traffic_start "$(url "$NAT_VIP4")"
sleep 1
nginx_kill b1
check 'is down' becomes nat4 "$b1" 'down (connection refused)'
check 'the log says so, once' test "$(grep -c "backend $b1 of service \"nat4\" is down" "$RUN_DIR/log/sluiced.log")" = 1
check 'new connections go elsewhere' without b1 "$NAT_VIP4"
traffic_stop
check 'it cost the requests until it was noticed, and no more' few_failed 100
check 'dsr, too' becomes dsr4 "$(backend4 b1):80" 'down (connection refused)'
nginx_start b1
check 'it comes back' becomes nat4 "$b1" up
check 'and serves' http_all "$(url "$NAT_VIP4")" 90

scene 'a backend that hangs'
hung=$(nginx_pid b2)
kill -STOP "$hung"
check 'is down for those who ask it something' becomes nat4 "$b2" 'down (timeout after 150ms)'
check 'is up for those who only connect' health_is nat6 "[$(backend6 b2)]:8080" up
check 'clients are served by the others' without b2 "$NAT_VIP4"
kill -CONT "$hung"
check 'it comes back' becomes nat4 "$b2" up

scene 'a backend whose host is gone'
ns_ip b3 link set eth0 down
check 'is down, by HTTP' becomes nat4 "$(backend4 b3):8080" 'down (*)'
check 'by echo' becomes icmp4 "$(backend4 b3):8080" 'down (*)'
check 'by UDP' becomes udp4 "$(backend4 b3):5300" 'down (*)'
ns_ip b3 link set eth0 up
address b3 eth0 "$(backend6 b3)/64"
route b3 default via 10.1.0.1
route b3 ::/0 via 2001:db8:b::1
check 'it comes back' becomes nat4 "$(backend4 b3):8080" up

scene 'what clients see, where checks are rare'
conf_checked | sed '0,/interval = "200ms"/s//interval = "60s"/; 0,/^mode = "nat"/s//mode = "nat"\nslow_start = "20s"/' >"$LB_CONFIG"
check 'a reload with a check a minute' ctl config apply "$LB_CONFIG"
sleep 0.5
traffic_start "$(url "$NAT_VIP4")"
nginx_kill b1
check 'resets count against a backend' becomes nat4 "$b1" 'down (*)'
check 'new connections go elsewhere' without b1 "$NAT_VIP4"
traffic_stop
check 'it cost some requests' few_failed 500

scene 'slow start'
nginx_start b1
conf_checked | sed '0,/^mode = "nat"/s//mode = "nat"\nslow_start = "20s"/' >"$LB_CONFIG"
check 'a reload with the usual check' ctl config apply "$LB_CONFIG"
check 'the backend comes back' becomes nat4 "$b1" up
check 'with little of its weight' slow_start_weight 5 30
check 'and gets little' share b1 1 40
check 'in time it gets more' wait_until 30 slow_start_weight 50 100
conf_checked >"$LB_CONFIG"
check 'without slow start it has its weight at once' ctl config apply "$LB_CONFIG"
check 'and its share' share b1 70 200

scene 'nobody is up'
for b in "${BACKENDS[@]}"; do nginx_kill "$b"; done
for b in "${BACKENDS[@]}"; do check "$b is down" becomes nat4 "$(backend4 "$b"):8080" 'down (connection refused)'; done
check 'all are used, and that is said' panics nat4
for b in "${BACKENDS[@]}"; do nginx_start "$b"; done
for b in "${BACKENDS[@]}"; do check "$b comes back" becomes nat4 "$(backend4 "$b"):8080" up; done
check 'all is well' http_all "$(url "$NAT_VIP4")" 90

scene 'a port without a server'
kill -KILL "$UDP_B1"
check 'UDP: the refusal is believed at once' becomes udp4 "$(backend4 b1):5300" "down (port unreachable, says $(backend4 b1))"

scene 'reloads'
since() { ctl -o json backend list nat4 | python3 -c 'import json, sys; print(int(min(b["health_since_seconds"] for b in json.load(sys.stdin)) * 1000))'; }
before=$(since)
conf_checked | sed '0,/ports = "82"/s//ports = "83"/' >"$LB_CONFIG"
check 'a reload elsewhere is taken' ctl config apply "$LB_CONFIG"
check 'and leaves what is known' test "$(since)" -ge "$before"
check 'all the while up' health_is nat4 "$b1" up
conf_checked | sed "0,/address = \"$b2\"/s//address = \"10.1.0.77:8080\"/" >"$LB_CONFIG"
check 'a backend that does not exist is added' ctl config apply "$LB_CONFIG"
check 'nobody is sent there' without b2 "$NAT_VIP4"
check 'it is called silent' becomes nat4 10.1.0.77:8080 'down (10.1.0.77 does not answer ARP)'
after_all
bed_down

scene 'servers with bad manners'
bed_up two-arm
dir=$RUN_DIR/odd
mkdir -p "$dir"
self_signed() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -keyout "$dir/$1.key" -out "$dir/$1.crt" -addext basicConstraints=critical,CA:FALSE "${@:2}" >"$RUN_DIR/log/openssl.log" 2>&1; }
self_signed good -subj /CN=good.test -addext subjectAltName=DNS:good.test,IP:10.1.0.11
self_signed wrong -subj /CN=wrong.test -addext subjectAltName=DNS:wrong.test
modes=(good hang drip garbage headers body redirect silent tls wrong) arguments=() odd_port=9000
for mode in "${modes[@]}"; do
  arguments+=("$mode:$odd_port")
  odd_port=$((odd_port + 1))
done
daemon_start odd ip netns exec "$(ns b1)" python3 "$NET_DIR/odd_http.py" "$dir" "${arguments[@]}"
wait_until 30 grep -q ready "$RUN_DIR/log/odd.log" || die 'the odd servers did not start'
{
  conf_runtime
  conf_ports two-arm
  port=7000
  odd() { checked "$1" "$NAT_VIP4" $((port += 1)) tcp nat "$3" "10.1.0.11:$2"; }
  odd good 9000 'http|body = "well"|status = [200]'
  odd hang 9001 http
  odd drip 9002 http
  odd garbage 9003 http
  odd headers 9004 http
  odd body 9005 'http|body = "well"'
  odd endless 9005 http
  odd redirect 9006 'http|status = 200'
  odd redirected 9006 http
  odd silent 9007 http
  odd tls 9008 "https|host = \"good.test\"|body = \"well\"|tls_verify = true|tls_ca = \"$dir/good.crt\""
  odd address 9008 "https|tls_verify = true|tls_ca = \"$dir/good.crt\""
  odd wrong 9009 "https|host = \"good.test\"|tls_verify = true|tls_ca = \"$dir/good.crt\""
  odd name 9009 "https|tls_name = \"good.test\"|tls_verify = true|tls_ca = \"$dir/wrong.crt\""
  odd unverified 9009 'https|host = "good.test"'
  odd plain 9000 'https'
  odd encrypted 9008 'http'
} >"$LB_CONFIG"
lb_start "$LB_CONFIG"
odd_is() { becomes "$1" "10.1.0.11:$2" "$3"; }
check 'good manners are seen' odd_is good 9000 up
check 'hanging' odd_is hang 9001 'down (timeout after 150ms)'
check 'a byte at a time' odd_is drip 9002 'down (timeout after 150ms)'
check 'garbage' odd_is garbage 9003 'down (not HTTP: *)'
check 'headers without end' odd_is headers 9004 'down (not HTTP: *)'
check 'a body without end' odd_is body 9005 'down (the first 65536 bytes of the body lack "well")'
check 'which nobody reads if nothing is looked for' odd_is endless 9005 up
check 'a redirect is its status' odd_is redirect 9006 'down (status 302, wanted 200)'
check 'and is not followed' odd_is redirected 9006 up
check 'closed at once' odd_is silent 9007 'down (*)'
check 'the right certificate' odd_is tls 9008 up
check 'for the address' odd_is address 9008 up
check 'a certificate of another authority' odd_is wrong 9009 'down (TLS: invalid peer certificate: *)'
check 'a certificate for another name' odd_is name 9009 'down (TLS: invalid peer certificate: certificate not valid for name *)'
check 'nobody asked for it' odd_is unverified 9009 up
check 'no TLS where it is wanted' odd_is plain 9000 'down (timeout after 150ms)'
check 'TLS where it is not' odd_is encrypted 9008 'down (*)'
after_all
test_end
