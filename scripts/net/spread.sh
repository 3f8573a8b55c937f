#!/usr/bin/env bash
# Which backend: affinity, tiers, least-connections, and backends that are clients of their own service.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"
shopt -s extglob

# conf_spread: services on one VIP, told apart by their port; keys of a service go where its scheduler is named.
conf_spread() {
  conf_runtime
  conf_ports "$1"
  # shellcheck disable=SC2046  # one word per backend
  {
    conf_service plain "$NAT_VIP4" 80 tcp nat round-robin $(conf_backends 4 8080)
    conf_service sticky "$NAT_VIP4" 81 tcp nat round-robin $(conf_backends 4 8080) |
      sed 's/^scheduler = .*/&\naffinity = "source-ip"\naffinity_timeout = "2s"/'
    conf_service source "$NAT_VIP4" 82 tcp nat source-hash $(conf_backends 4 8080)
    conf_service least "$NAT_VIP4" 83 tcp nat least-connections $(conf_backends 4 8080)
    conf_service tiers "$NAT_VIP4" 84 tcp nat maglev $(conf_backends 4 8080) |
      sed 's/^address = "10.1.0.13:8080"/&\ntier = 1/'
    printf '[service.health]\ntype = "tcp"\ninterval = "200ms"\ntimeout = "100ms"\nrise = 1\nfall = 2\n'
    conf_service plain6 "$NAT_VIP6" 80 tcp nat round-robin $(conf_backends 6 8080)
  }
}

# answers NS URL COUNT: the spread of so many requests, in ANSWERS; none may fail.
answers() {
  local out=$RUN_DIR/spread.out
  : >"$out"
  http_requests "$1" "$2" "$3" "$out"
  ANSWERS=$(http_spread "$out")
  echo "$(http_failed "$out" "$3") of $3 failed; $ANSWERS"
  [[ $(http_failed "$out" "$3") == 0 ]]
}

by_all() { answers "$@" && [[ $ANSWERS == *b1*b2*b3* ]]; }
by_one() { answers "$@" && [[ $ANSWERS != *,* ]]; }
by_only() { answers client "http://$NAT_VIP4:84/" 30 && [[ ${ANSWERS// [0-9]*([0-9])/} == "$1" ]]; }

# moves_on: with affinity the round goes on when the client is forgotten: within a few silences another backend answers.
moves_on() {
  local n seen=()
  for ((n = 0; n < 4; n++)); do
    answers client "http://$NAT_VIP4:81/" 1 || return
    seen+=("${ANSWERS%% *}")
    sleep 2.5
  done
  echo "${seen[*]}"
  (($(printf '%s\n' "${seen[@]}" | sort -u | wc -l) > 1))
}

# evens_out: so many slow downloads at once are as many on each backend.
evens_out() {
  local n pids=() spread=''
  for ((n = 0; n < 30; n++)); do
    in_ns client curl -s -o "$RUN_DIR/slow.$n" --max-time 60 "http://$NAT_VIP4:83/slow/blob" &
    pids+=($!)
    # One after the other, as clients come: the plan of a worker is renewed every few milliseconds.
    sleep 0.05
  done
  for ((n = 0; n < 50; n++)); do
    spread=$(stat_of "sorted(b['connections_active'] for b in service('least')['backends'])")
    [[ $spread != '[10, 10, 10]' ]] || break
    sleep 0.1
  done
  kill "${pids[@]}" 2>/dev/null || true
  wait "${pids[@]}" 2>/dev/null || true
  echo "connections by backend: $spread"
  [[ $spread == '[10, 10, 10]' || $spread == '[9, 10, 11]' ]]
}

tier_is_used() { wait_until 30 by_only "$1"; }

test_begin 'schedulers, affinity, tiers, hairpin'
for topology in two-arm one-arm; do
  scene "$topology"
  bed_up "$topology"
  blob 8
  conf_spread "$topology" >"$LB_CONFIG"
  lb_start "$LB_CONFIG"
  check 'round-robin reaches all' by_all client "http://$NAT_VIP4/" 30
  check 'a client with affinity stays, whatever the scheduler' by_one client "http://$NAT_VIP4:81/" 30
  check 'source-hash keeps a client where it is' by_one client "http://$NAT_VIP4:82/" 30
  check 'backends are clients of their own service: IPv4' by_all b1 "http://$NAT_VIP4/" 30
  check 'backends are clients of their own service: IPv6' by_all b2 "http://[$NAT_VIP6]/" 30
  if [[ $topology == two-arm ]]; then
    check 'a client that was silent for long is forgotten' moves_on
    check 'least-connections fills them evenly' evens_out
    check 'the lowest tier serves alone' tier_is_used 'b1, b2'
    for b in b1 b2; do
      daemon_stop "$(awk -v name="nginx-$b" '$3 == name { pid = $1 } END { print pid }' "$RUN_DIR/pids")" || true
    done
    check 'the next tier serves when all of it are down' tier_is_used 'b3'
    nginx_start b1
    nginx_start b2
    check 'and steps back when they are up again' tier_is_used 'b1, b2'
  fi
  after_all
  bed_down
done
test_end
