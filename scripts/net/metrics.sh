#!/usr/bin/env bash
# What operators see from outside: metrics that Prometheus scrapes, a dashboard without an empty panel, events, explain.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

METRICS=127.0.0.1:9108 PROMETHEUS=127.0.0.1:9090
DASHBOARD=$SLUICE_ROOT/ctl/grafana/sluice.json

# conf: that of most tests, with the listener and a check of one service.
conf() {
  conf_all two-arm |
    sed -e "s|^\[runtime\]|&\nmetrics = \"$METRICS\"|" \
      -e '0,/^\[\[service.backend/s//[service.health]\ntype = "http"\ninterval = "500ms"\ntimeout = "400ms"\n&/'
}

scrape() { in_ns lb curl -sS --fail "$@" "http://$METRICS/metrics"; }
plain_passes_promtool() { scrape -H 'Accept: text/plain' >"$RUN_DIR/plain" && promtool check metrics <"$RUN_DIR/plain"; }
open_metrics() { scrape >"$RUN_DIR/open" && tail -n 1 "$RUN_DIR/open" | grep -qx '# EOF' && grep '^sluice_build_info{version=' "$RUN_DIR/open"; }

prometheus_start() {
  cat >"$RUN_DIR/prometheus.yml" <<CONF
global: { scrape_interval: 1s }
scrape_configs: [{ job_name: sluice, static_configs: [{ targets: ["$METRICS"] }] }]
CONF
  daemon_start prometheus ip netns exec "$(ns lb)" prometheus --config.file="$RUN_DIR/prometheus.yml" \
    --storage.tsdb.path="$RUN_DIR/tsdb" --web.listen-address="$PROMETHEUS"
}

query() { in_ns lb curl -sS --fail --get --data-urlencode "query=$1" "http://$PROMETHEUS/api/v1/query"; }
scraped() { query 'count_over_time(up[10s]) > 4 and up == 1' | grep '"value"'; }

# every_panel: the queries of the dashboard, each of which must have a result.
# shellcheck disable=SC2016  # names of Grafana's
every_panel() {
  local expr result count=0 empty=0
  while IFS= read -r expr; do
    count=$((count + 1))
    result=$(query "$expr") || { echo "refused: $expr"; return 1; }
    [[ $result != *'"result":[]'* ]] || { echo "empty: $expr"; empty=$((empty + 1)); }
  done < <(python3 -c 'import json, sys
for panel in json.load(open(sys.argv[1]))["panels"]:
    for target in panel.get("targets", []):
        print(target["expr"].replace("$__rate_interval", "10s").replace("$service", ".*"))' "$DASHBOARD")
  echo "$count queries, $empty of them empty"
  ((count > 20 && empty == 0))
}

# agrees METRIC EXPRESSION: a value of Prometheus's and one of the statistics.
agrees() {
  local got want
  got=$(query "$1" | python3 -c 'import json, sys; print(int(float(json.load(sys.stdin)["data"]["result"][0]["value"][1])))')
  want=$(stat_of "$2")
  echo "$1 is $got, $2 is $want"
  [[ $got == "$want" ]]
}

event_seen() { grep -q "$1" "$RUN_DIR/log/events.log"; }
explains() {
  local out
  out=$(ctl explain "${@:2}") && echo "$out" && grep -qE "$1" <<<"$out"
}
not_found() {
  local status=0
  ctl explain "$@" || status=$?
  [[ $status == 4 ]]
}

test_begin 'metrics, events, explain'
scene two-arm
bed_up two-arm
conf >"$LB_CONFIG"
lb_start "$LB_CONFIG"
daemon_start events "$SLUICECTL" --socket "$LB_SOCKET" events --follow
prometheus_start
traffic_start "$(url "$NAT_VIP4")"
check 'OpenMetrics for who asks for nothing else' open_metrics
check 'promtool finds nothing wrong with the plain text' plain_passes_promtool
check 'Prometheus scrapes it' wait_until 60 scraped
check 'no query of the dashboard is empty' wait_until 30 every_panel
every_panel >"$RUN_DIR/panels" || cat "$RUN_DIR/panels"
traffic_stop
sleep 3
check 'connections agree with the statistics' agrees 'sluice_service_connections_total{service="nat4"}' 'service("nat4")["connections_total"]'

ctl backend disable nat4 "$(backend4 b1):8080" >/dev/null
check 'an event is seen while it happens' wait_until 10 event_seen 'backend 10.1.0.11:8080 of service "nat4" is disabled now'
check 'with its number' wait_until 10 event_seen ' backend_changed '

check 'explain names service and backend' explains 'service +nat4' tcp 198.51.100.1:4000 "$NAT_VIP4:80"
check 'and what leaves' explains 'as +tcp 198.51.100.1:4000 -> 10.1.0.1[23]:8080' tcp 198.51.100.1:4000 "$NAT_VIP4:80"
check 'a port that is not served is not found' not_found tcp 198.51.100.1:4000 "$NAT_VIP4:81"
after_all
bed_down
test_end
