#!/usr/bin/env bash
# The life of TCP connections: what an outsider forges ends none, half of one closes and the other goes on, and a restart of
# the balancer is survived, or refused, as the service says.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

HALF_PORT=9000 LINES_SENT=30
life() { in_ns "$1" timeout 120 python3 "$NET_DIR/tcp_life.py" "${@:2}"; }

# conf_life POLICY: as usual, services with half-closed connections, and what becomes of unknown ones in nat.
conf_life() {
  conf_all two-arm | sed "/^protocol = \"tcp\"/{n;s/^mode = \"nat\"/&\n$1/}"
  local f vip
  for f in 4 6; do
    if [[ $f == 4 ]]; then vip=$NAT_VIP4; else vip=$NAT_VIP6; fi
    # shellcheck disable=SC2046  # one word per backend
    conf_service "half-nat$f" "$vip" "$HALF_PORT" tcp nat maglev $(conf_backends "$f" "$HALF_PORT")
    if [[ $f == 4 ]]; then vip=$DSR_VIP4; else vip=$DSR_VIP6; fi
    # shellcheck disable=SC2046
    conf_service "half-dsr$f" "$vip" "$HALF_PORT" tcp dsr maglev $(conf_backends "$f" "$HALF_PORT")
  done
}

# flow_state CLIENT: the state of the connection of that client's address and port, or none.
flow_state() {
  ctl -o json flow | python3 -c 'import json, sys
print(next((f["state"] for f in json.load(sys.stdin)["flows"] if f["client"] == sys.argv[1]), "none"))' "$1"
}
flow_is() {
  local got
  got=$(flow_state "$1")
  echo "$1 is $got, want $2"
  [[ $got == "$2" ]]
}
becomes() { wait_until 20 flow_is "$1" "$2" || { flow_is "$1" "$2"; return 1; }; }

# forged VIP CLIENT PORT: during a download of some seconds somebody forges segments of the client from that port. Each download
# has its own: the one before may still be in TIME-WAIT.
forged() {
  local vip=$1 client=$2 port=$3 end pid status=0
  end=$([[ $client == *:* ]] && echo "[$client]:$port" || echo "$client:$port")
  in_ns client curl -sS --fail --max-time 120 --limit-rate 4M --local-port "$port" "$(url "$vip")files/blob" >"$RUN_DIR/got" &
  pid=$!
  becomes "$end" established || return
  life client forge wan0 "$(mac_of lb wan)" "$client" "$port" "$vip" 80 400 || return
  # Were one of them lucky, the next segments would have made up for it.
  becomes "$end" established || return
  wait "$pid" || status=$?
  echo "curl ends with $status; out of window: $(stat_of "s['out_of_window_packets']")"
  [[ $status == 0 && $(sha256sum <"$RUN_DIR/got") == "$BLOB_SHA256" ]] && becomes "$end" closed
}

endings_are_counted() {
  local count
  count=$(stat_of "s['out_of_window_packets']")
  echo "$count endings out of window"
  ((count > 800))
}

# across POLICY: six connections in use through nat while the balancer restarts. Prints how they fared.
across() {
  local status=0 pid vip=$2
  rm -f "$RUN_DIR"/hold.*
  in_ns client timeout 60 python3 "$NET_DIR/hold.py" "$vip" 80 6 "$RUN_DIR" >"$RUN_DIR/across.out" 2>&1 &
  pid=$!
  wait_until 30 test -e "$RUN_DIR/hold.names" || return
  lb_stop
  lb_start "$LB_CONFIG"
  sleep 3
  touch "$RUN_DIR/hold.stop"
  wait "$pid" || status=$?
  tail -n 1 "$RUN_DIR/across.out"
  if [[ $1 == adopt ]]; then [[ $status == 0 ]]; else grep -q 'ConnectionResetError' "$RUN_DIR/across.out"; fi
}

test_begin 'the life of TCP connections'
blob 32
bed_up two-arm
for b in "${BACKENDS[@]}"; do
  daemon_start "half-$b" ip netns exec "$(ns "$b")" python3 "$NET_DIR/tcp_life.py" serve "$HALF_PORT" "$LINES_SENT"
  wait_until 30 grep -q ready "$RUN_DIR/log/half-$b.log" || die "the server did not start on $b"
done
conf_life '' >"$LB_CONFIG"
lb_start "$LB_CONFIG"
scene 'an outsider forges resets, FINs and SYNs'
check 'nat, IPv4: a download goes on and its connection stays' forged "$NAT_VIP4" "$NAT_CLIENT4" 41000
check 'nat, IPv6: a download goes on and its connection stays' forged "$NAT_VIP6" "$NAT_CLIENT6" 41001
check 'dsr, IPv4: a download goes on and its connection stays' forged "$DSR_VIP4" "$DSR_CLIENT4" 41002
check 'dsr, IPv6: a download goes on and its connection stays' forged "$DSR_VIP6" "$DSR_CLIENT6" 41003
check 'they are counted' endings_are_counted
scene 'half-closed connections'
for vip in "$NAT_VIP4" "$NAT_VIP6" "$DSR_VIP4" "$DSR_VIP6"; do
  check "$vip: six seconds of answers after the client has closed its half" life client half "$vip" "$HALF_PORT" "$LINES_SENT"
done
scene 'a restart'
status=0
across adopt "$NAT_VIP4" >"$RUN_DIR/restart.out" 2>&1 || status=$?
check 'connections of nat are adopted' test "$status" = 0
[[ $status == 0 ]] || cat "$RUN_DIR/restart.out"
lb_stop
conf_life 'unknown_connections = "reset"' >"$LB_CONFIG"
lb_start "$LB_CONFIG"
for vip in "$NAT_VIP4" "$NAT_VIP6"; do
  status=0
  across reset "$vip" >"$RUN_DIR/restart.out" 2>&1 || status=$?
  check "$vip: connections are reset where the service says so" test "$status" = 0
  [[ $status == 0 ]] || cat "$RUN_DIR/restart.out"
done
check 'which has a drop reason of its own' test "$(stat_of "s['drops']['unknown_connection'] > 0")" = True
check 'new connections are served' http_all "$(url "$NAT_VIP4")" 60
after_all
bed_down
test_end
