#!/usr/bin/env bash
# The status page in a real browser, headless Chromium, with sluiced under load.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

METRICS=127.0.0.1:9108 DRIVER=http://127.0.0.1:9515
PAGE=http://$METRICS/status
MANY=3000

conf() { conf_all two-arm | sed "s|^\[runtime\]|&\nmetrics = \"$METRICS\"\nstatus_page = true|"; }

# conf_many: the same with a service of $MANY backends, behind the router.
conf_many() {
  conf
  local n backends=()
  for ((n = 0; n < MANY; n++)); do backends+=("10.77.$((n / 250)).$((n % 250 + 1)):80"); done
  conf_service many 192.0.2.9 80 tcp nat round-robin "${backends[@]}"
}

# page VERB [ARGUMENT...]: one check, in a browser of its own.
PROFILES=0
page() {
  PROFILES=$((PROFILES + 1))
  mkdir "$RUN_DIR/profile-$PROFILES"
  in_ns lb timeout 180 python3 "$NET_DIR/status_page.py" "$DRIVER" "$RUN_DIR/profile-$PROFILES" "$PAGE" "$@"
}

driver_answers() { in_ns lb curl -sf "$DRIVER/status" | grep -q '"ready":true'; }

apply_strange_name() {
  local file="$RUN_DIR/<img src=x id=injected>.toml"
  conf >"$file" && ctl config apply "$file"
}
apply_many() { conf_many >"$RUN_DIR/many.toml" && ctl --timeout 2m config apply "$RUN_DIR/many.toml" >/dev/null; }

# The daemon goes when the page is seen.
gone_while_seen() {
  (
    trap - EXIT
    wait_until 60 test -e "$RUN_DIR/seen" && kill -TERM "$LB_PID"
  ) &
  local status=0
  page absent "$RUN_DIR/seen" || status=$?
  wait $! || true
  return "$status"
}

packages_or_skip 'chromium|chromium' 'chromium-driver|chromedriver' 'fonts-dejavu-core|file:/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf'
test_begin 'status page'
scene two-arm
bed_up two-arm
conf >"$LB_CONFIG"
lb_start "$LB_CONFIG"
daemon_start chromedriver ip netns exec "$(ns lb)" chromedriver --port=9515
wait_until 60 driver_answers || die 'chromedriver does not answer'
traffic_start "$(url "$NAT_VIP4")"
check 'services, backends, workers and ports with their rates' page shows
traffic_stop
ctl backend disable nat4 "$(backend4 b1):8080" >/dev/null
check 'filters, and what is in trouble' page filters
check 'a narrow screen' page fits
check 'contrast and names, light and dark' page readable
check 'a file with a strange name' apply_strange_name
check 'is text on the page' page text_only
check "$MANY backends are taken" apply_many
check 'and paged' page many $((MANY + 24))
after_all
check 'it says when the daemon is gone' gone_while_seen
LB_PID=''
bed_down
test_end
