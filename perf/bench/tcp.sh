#!/usr/bin/env bash
# Real TCP through AF_PACKET on veth, beside testpmd as a wire, HAProxy and nftables at the same place.
set -euo pipefail
# shellcheck source=perf/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=scripts/lib/topology.sh
source "$SLUICE_ROOT/scripts/lib/topology.sh"

# wrk and nginx on the first CPU, what stands between them on the second:
#
#   wrk ── veth (wan) ── sluiced, testpmd io, HAProxy or the kernel ── veth (lan) ── bridge ── nginx
#
# Rounds take turns, so that what else the machine does meets all alike.
bench_begin tcp
hugepages_borrow 512
for program in dpdk-testpmd wrk haproxy nft; do
  command -v "$program" >/dev/null || die "$program is not installed" 'perf/run.sh installs what benchmarks need.'
done
ROUNDS=$(full_or_quick 5 2)
SECONDS_EACH=$(full_or_quick 4 1)
CONNECTIONS=64
OUT=$RUN_DIR/tcp.jsonl
: >"$OUT"

taskset -cp "$CONTROL_CPU" $$ >/dev/null
# The two CPUs stay those that were found before.
conf_cpus() { :; }
topology_up two-arm
nginx_start b1
# The wire joins both sides into one link: one more address there for each end.
address client wan0 10.9.0.1/24
address b1 eth0 10.9.0.2/24


# answers ADDRESS PORT: whether nginx is reached there.
answers() { in_ns client curl -sf -m 1 -o /dev/null "http://$1:$2/"; }

# kernel_up, kernel_down: the balancer's namespace as a router, as HAProxy and nftables need it, its softirqs on the second
# CPU.
kernel_up() {
  local dev
  address lb wan 10.0.0.2/24
  address lb lan 10.1.0.1/24
  # A VIP of the kernel's, since HAProxy needs one to listen on.
  address lb lo "$NAT_VIP4/32"
  route lb default via 10.0.0.1
  ns_sysctl lb net.ipv4.ip_forward=1
  for dev in wan lan; do
    in_ns lb sh -c "printf '%x' $((1 << WORKER_CPU)) >/sys/class/net/$dev/queues/rx-0/rps_cpus"
  done
}

kernel_down() {
  local dev
  ns_sysctl lb net.ipv4.ip_forward=0
  ns_ip lb address flush dev wan
  ns_ip lb address flush dev lan
  ns_ip lb address del "$NAT_VIP4/32" dev lo
  for dev in wan lan; do in_ns lb sh -c "echo 0 >/sys/class/net/$dev/queues/rx-0/rps_cpus"; done
}

# Each contender: NAME_up brings it up and sets TARGET, NAME_down takes it away.
wire_up() {
  # With a period for statistics it ends by a signal, not at the end of its input.
  daemon_start testpmd ip netns exec "$(ns lb)" dpdk-testpmd --lcores "0@$CONTROL_CPU,1@$WORKER_CPU" --main-lcore 0 \
    --in-memory --no-pci --no-telemetry "--file-prefix=sluice-$RUN_ID" \
    --vdev net_af_packet0,iface=wan --vdev net_af_packet1,iface=lan -- \
    --forward-mode=io --auto-start --nb-cores=1 --burst=32 --total-num-mbufs=16384 --stats-period=1
  PEER_PID=$DAEMON_PID TARGET=10.9.0.2 TARGET_PORT=8080
}
wire_down() { stop_peer; }

sluice_up() {
  {
    conf_runtime | sed '1a poll = "busy"'
    conf_ports two-arm
    conf_service web "$NAT_VIP4" 80 tcp nat maglev 10.1.0.11:8080
  } >"$LB_CONFIG"
  daemon_start sluiced taskset -c "$CONTROL_CPU,$WORKER_CPU" ip netns exec "$(ns lb)" "$SLUICED" --config "$LB_CONFIG"
  PEER_PID=$DAEMON_PID TARGET=$NAT_VIP4 TARGET_PORT=80
}
sluice_down() { stop_peer; }

haproxy_up() {
  kernel_up
  cat >"$RUN_DIR/haproxy.cfg" <<CONF
global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen web
  bind $NAT_VIP4:80
  server b1 10.1.0.11:8080
CONF
  daemon_start haproxy ip netns exec "$(ns lb)" taskset -c "$WORKER_CPU" haproxy -db -f "$RUN_DIR/haproxy.cfg"
  PEER_PID=$DAEMON_PID TARGET=$NAT_VIP4 TARGET_PORT=80
}
haproxy_down() {
  stop_peer
  kernel_down
}

nftables_up() {
  kernel_up
  in_ns lb nft -f - <<CONF
table ip balance {
  chain in {
    type nat hook prerouting priority -100;
    ip daddr $NAT_VIP4 tcp dport 80 dnat to 10.1.0.11:8080
  }
}
CONF
  TARGET=$NAT_VIP4 TARGET_PORT=80
}
nftables_down() {
  in_ns lb nft delete table ip balance
  kernel_down
}

stop_peer() { daemon_stop "$PEER_PID" || true; }

# load KIND: wrk against the contender; its figures as JSON.
load() {
  local -a header=()
  [[ $1 == keep-alive ]] || header=(-H 'Connection: close')
  in_ns client timeout 60 wrk -t 1 -c "$CONNECTIONS" -d "${SECONDS_EACH}s" --latency "${header[@]}" \
    -s "$PERF_DIR/bench/tcp.lua" "http://$TARGET:$TARGET_PORT/" | sed -n 's/^figures //p'
}

for ((round = 0; round < ROUNDS; round++)); do
  contenders=(wire sluice haproxy nftables)
  # Each begins a round in turn.
  for ((n = 0; n < ${#contenders[@]}; n++)); do
    who=${contenders[(n + round) % ${#contenders[@]}]}
    progress "round $((round + 1)) of $ROUNDS: $who"
    "${who}_up"
    wait_until 30 answers "$TARGET" "$TARGET_PORT" || { tail -n 20 "$RUN_DIR/log/$who.log" >&2; die "nothing answers through $who"; }
    for kind in keep-alive per-request; do
      load "$kind" | jq -c --arg who "$who" --arg kind "$kind" '. + {who: $who, kind: $kind}' >>"$OUT"
    done
    "${who}_down"
  done
done

# of WHO KIND KEY: the values of all rounds, separated by spaces.
of() { jq -r --arg who "$1" --arg kind "$2" "select(.who == \$who and .kind == \$kind) | .$3" "$OUT" | tr '\n' ' '; }

for kind in keep-alive per-request; do
  if [[ $kind == keep-alive ]]; then target=0.95; else target=0.9; fi
  for who in sluice haproxy nftables; do
    # shellcheck disable=SC2046  # one word per round
    {
      mine=$(median $(of $who $kind requests_per_s)) wire=$(median $(of wire $kind requests_per_s))
      mine_p99=$(median $(of $who $kind p99_us)) wire_p99=$(median $(of wire $kind p99_us))
      samples=$(array $(of $who $kind requests_per_s))
    }
    failed=$(jq -s --arg who $who --arg kind $kind 'map(select(.who == $who and .kind == $kind) | .errors) | add' "$OUT")
    goal=() goal99=()
    [[ $who != sluice ]] || goal=("target=$target") goal99=(target=1.2)
    figure "tcp/$kind" "${who}_throughput_over_wire" "$(divide "$mine" "$wire")" ratio higher "${goal[@]}" \
      reference='testpmd io, requests/s' reference_value="$wire" note="$failed requests failed" \
      extra="{\"requests_per_s\":$samples}"
    figure "tcp/$kind" "${who}_p99_over_wire" "$(divide "$mine_p99" "$wire_p99")" ratio lower "${goal99[@]}" \
      reference='testpmd io, p99 in us' reference_value="$wire_p99"
  done
done
