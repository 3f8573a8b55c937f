# shellcheck shell=bash
# The two test networks. Both have a client, the balancer (lb) and three backends (b1 b2 b3), each in a namespace,
# IPv4 and IPv6 side by side, the LAN a bridge in a namespace of its own (lan).
#
#   two-arm    client wan0 ── wan lb lan ──┐
#                     lan0 ────────────────┤ bridge ── eth0 b1, b2, b3
#   one-arm    client lan0 ────────────────┤
#                              lb lan ─────┘
#
# The client stands for the network outside: it is also the router of the addresses that it calls from, which sit on its
# loopback, one pair for nat and one for dsr. The backends' default route is the balancer, as nat needs; for the dsr pair
# they have a route straight to the client, past the balancer, as dsr needs. So one network serves both modes at once.
#
#            wan                lan                        VIPs               client calls from
#   IPv4     10.0.0.0/24        10.1.0.0/24          nat   192.0.2.0/28       198.51.100.1
#                                                    dsr   192.0.2.16/28      203.0.113.1
#   IPv6     2001:db8:a::/64    2001:db8:b::/64      nat   2001:db8:f1::/64   2001:db8:c1::1
#                                                    dsr   2001:db8:f2::/64   2001:db8:c2::1
#   host     client .1, lb .2   lb .1, bN .10+N, client .254 (IPv6 ::fe)
#
# shellcheck disable=SC2034  # constants for the scripts that source this

BACKENDS=(b1 b2 b3)
NAT_VIP4=192.0.2.10 NAT_VIP6=2001:db8:f1::10
DSR_VIP4=192.0.2.20 DSR_VIP6=2001:db8:f2::20
# On the subnet of the balancer's port, so that clients find them by ARP and neighbour discovery.
WAN_VIP4=10.0.0.100 WAN_VIP6=2001:db8:a::100
LAN_VIP4=10.1.0.100 LAN_VIP6=2001:db8:b::100
NAT_CLIENT4=198.51.100.1 NAT_CLIENT6=2001:db8:c1::1
DSR_CLIENT4=203.0.113.1 DSR_CLIENT6=2001:db8:c2::1

backend4() { echo "10.1.0.1${1#b}"; }
backend6() { echo "2001:db8:b::1${1#b}"; }

# topology_up one-arm|two-arm
topology_up() {
  TOPOLOGY=$1
  local b via4=10.0.0.2 via6=2001:db8:a::2 dev=wan0 ports=()
  ns_add client
  ns_add lb
  ns_add lan
  for b in "${BACKENDS[@]}"; do ns_add "$b"; done

  if [[ $TOPOLOGY == two-arm ]]; then
    wire client wan0 lb wan
    silent lb wan
    ns_ip client link set wan0 up
    address client wan0 10.0.0.1/24 2001:db8:a::1/64
  else
    via4=10.1.0.1 via6=2001:db8:b::1 dev=lan0
  fi
  wire lb lan lan to-lb
  silent lb lan
  wire client lan0 lan to-client
  ns_ip client link set lan0 up
  for b in "${BACKENDS[@]}"; do
    wire "$b" eth0 lan "to-$b"
    ns_ip "$b" link set eth0 up
    ports+=("to-$b")
  done
  bridge_add lan br0 to-lb to-client "${ports[@]}"

  address client lan0 10.1.0.254/24 2001:db8:b::fe/64
  address client lo "$NAT_CLIENT4/32" "$DSR_CLIENT4/32" "$NAT_CLIENT6/128" "$DSR_CLIENT6/128"
  route client 192.0.2.0/28 via "$via4" dev "$dev" src "$NAT_CLIENT4"
  route client 192.0.2.16/28 via "$via4" dev "$dev" src "$DSR_CLIENT4"
  route client 2001:db8:f1::/64 via "$via6" dev "$dev" src "$NAT_CLIENT6"
  route client 2001:db8:f2::/64 via "$via6" dev "$dev" src "$DSR_CLIENT6"

  for b in "${BACKENDS[@]}"; do
    # A dsr backend owns the VIP without saying so: on loopback, and never in ARP. (Neighbour discovery answers only
    # for addresses of the interface that was asked.)
    ns_sysctl "$b" net.ipv4.conf.{all,default}.arp_ignore=1 net.ipv4.conf.{all,default}.arp_announce=2
    address "$b" eth0 "$(backend4 "$b")/24" "$(backend6 "$b")/64"
    address "$b" lo "$DSR_VIP4/32" "$DSR_VIP6/128"
    route "$b" default via 10.1.0.1
    route "$b" ::/0 via 2001:db8:b::1
    route "$b" "$DSR_CLIENT4/32" via 10.1.0.254
    route "$b" "$DSR_CLIENT6/128" via 2001:db8:b::fe
  done
  wait_until 30 links_ready client lb lan "${BACKENDS[@]}" || die 'the links of the test network did not come up'
}

topology_down() {
  local n
  while read -r n; do ip netns del "$n"; done < <(run_namespaces "$RUN_ID")
}

# --- what runs on it ---------------------------------------------------------------------------------------------

# nginx_start BACKEND: answers its own name at /, files under /files/, slowly under /slow/.
# Port 8080 behind nat, port 80 behind dsr, both families; state and logs under $RUN_DIR, nothing of the system's.
nginx_start() {
  local b=$1 dir=$RUN_DIR/nginx-$1
  mkdir -p "$dir" "$RUN_DIR/files"
  cat >"$dir/nginx.conf" <<CONF
daemon off;
master_process on;
worker_processes 1;
user www-data;
pid $dir/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  default_type text/plain;
  client_body_temp_path $dir/body;
  proxy_temp_path $dir/proxy;
  fastcgi_temp_path $dir/fastcgi;
  uwsgi_temp_path $dir/uwsgi;
  scgi_temp_path $dir/scgi;
  keepalive_requests 1000000;
  keepalive_timeout 3600s;
  reset_timedout_connection on;
  server {
    listen 80 backlog=4096;
    listen [::]:80 backlog=4096;
    listen 8080 backlog=4096;
    listen [::]:8080 backlog=4096;
    server_name $b;
    location / { return 200 "$b\n"; }
    location /files/ { alias $RUN_DIR/files/; }
    location /slow/ { alias $RUN_DIR/files/; limit_rate 200k; }
  }
}
CONF
  daemon_start "nginx-$b" ip netns exec "$(ns "$b")" nginx -p "$dir" -e stderr -c "$dir/nginx.conf"
  if ! wait_until 30 in_ns "$b" curl -sf -o "$dir/first" http://127.0.0.1:8080/; then
    cat "$RUN_DIR/log/nginx-$b.log" >&2
    die "nginx did not start in namespace $(ns "$b")"
  fi
}

# http_requests NS URL COUNT OUT [CURL-OPTION...]: COUNT requests, each on a connection of its own, one line each appended to OUT:
# the answering backend's name (or -), the HTTP status and curl's exit code (0: none failed), separated by spaces.
http_requests() {
  local name=$1 url="$2?n=[1-$3]" out=$4
  shift 4
  in_ns "$name" curl -s -H 'Connection: close' --connect-timeout 20 --max-time 60 -w '= %{http_code} %{exitcode}\n' "$@" \
    "$url" 2>/dev/null |
    awk 'BEGIN { name = "-" } $1 == "=" { print name, $2, $3; name = "-"; next } { name = $1 }' >>"$out" || true
}

# http_failed FILE COUNT: how many of COUNT requests did not get a 200 with a backend's name.
http_failed() { awk -v n="$2" '$1 ~ /^b[0-9]+$/ && $2 == 200 && $3 == 0 { ok++ } END { print n - ok }' "$1"; }

# http_spread FILE: "b1 340, b2 321, b3 339"
http_spread() {
  awk '$2 == 200 { n[$1]++ } END { for (b in n) print b, n[b] }' "$1" | sort | paste -sd , | sed 's/,/, /g'
}
