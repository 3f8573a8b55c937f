#!/usr/bin/env bash
# Thousands of backends are checked in time, for little of the control thread; so are thousands that do not answer.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

MANY=${MANY:-3000}

# conf_many TYPE: so many backends behind b1, in services of 500, each asked every 2 s.
conf_many() {
  conf_runtime
  conf_ports two-arm
  printf '\n[[route]]\nto = "10.2.0.0/16"\nvia = "10.1.0.11"\n'
  local n
  for ((n = 0; n < MANY; n++)); do
    if ((n % 500 == 0)); then
      conf_service "many$((n / 500))" "192.0.2.1" $((1000 + n / 500)) tcp nat round-robin
      printf '[service.health]\ntype = "%s"\ninterval = "2s"\ntimeout = "1500ms"\npassive = false\n' "$1"
    fi
    printf '[[service.backend]]\naddress = "10.2.%d.%d:8080"\n' $((n / 250)) $((n % 250 + 1))
  done
}

# passive_opens: connections that b1 has accepted.
passive_opens() { in_ns b1 nstat -asz TcpPassiveOpens | awk '/Tcp/ { print $2 }'; }

# control_ms: what the control thread has spent so far, in milliseconds.
control_ms() {
  local ticks
  ticks=$(awk '{ print $14 + $15 }' "/proc/$LB_PID/task/$LB_PID/stat")
  echo $((ticks * 1000 / $(getconf CLK_TCK)))
}

up_count() { stat_of "sum(b['health'] == 'up' and b['health_detail'] == '' for v in s['services'] for b in v['backends'])"; }
down_count() { stat_of "sum(b['health'] == 'down' for v in s['services'] for b in v['backends'])"; }
all_are() { [[ $("$1") == "$MANY" ]]; }

# in_time: in 10 s each backend is asked 5 times, with what the ends of the interval add and take away.
in_time() {
  local before after spent
  before=$(passive_opens) spent=$(control_ms)
  sleep 10
  after=$(passive_opens) spent=$(($(control_ms) - spent))
  echo "$((after - before)) checks in 10 s, $((MANY * 5)) wanted; $spent ms of the control thread, $((spent * 1000 / (after - before))) us a check"
  ((after - before > MANY * 5 * 96 / 100 && after - before < MANY * 5 * 104 / 100))
}

test_begin "health checks of $MANY backends"
bed_up two-arm
ns_ip b1 route add local 10.2.0.0/16 dev lo
for kind in tcp http; do
  scene "$kind"
  conf_many "$kind" >"$LB_CONFIG"
  lb_start "$LB_CONFIG"
  check 'all come up' wait_until 30 all_are up_count
  check 'all are asked every 2 s' in_time
  sed -n 's/^/          /p' "$RUN_DIR/check.out"
  if [[ $kind == http ]]; then
    # The host drops what it gets: each check waits for its timeout.
    ns_ip b1 route del local 10.2.0.0/16 dev lo
    ns_ip b1 route add blackhole 10.2.0.0/16
    check 'all that are silent are down in 3 intervals and a timeout' wait_until 20 all_are down_count
    ns_ip b1 route del blackhole 10.2.0.0/16
    ns_ip b1 route add local 10.2.0.0/16 dev lo
    check 'all come back' wait_until 30 all_are up_count
  fi
  after_all
  lb_stop || true
done
test_end
