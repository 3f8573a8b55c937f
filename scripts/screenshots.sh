#!/usr/bin/env bash
# Makes the pictures of the README again: see usage below.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/screenshots.sh [DIRECTORY]

As root, on Debian 12: brings sluiced up in network namespaces as scripts/quickstart.sh does, puts load on it, and writes
pictures of what it shows to DIRECTORY (ctl/docs): sluicectl status, top, backend drain and explain as SVG, and the status
page as PNG. Everything is real; nothing is edited. Installs tmux, chromium and pngquant where they are missing.

SLUICE_BIN=DIR uses sluiced and sluicectl from DIR in place of building them.
TEXT
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  -*) usage >&2; exit 2 ;;
esac

LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"
# shellcheck source=scripts/lib/packages.sh
source "$LIB/packages.sh"
# shellcheck source=scripts/lib/hugepages.sh
source "$LIB/hugepages.sh"
# shellcheck source=scripts/lib/run.sh
source "$LIB/run.sh"
# shellcheck source=scripts/lib/netns.sh
source "$LIB/netns.sh"
# shellcheck source=scripts/lib/topology.sh
source "$LIB/topology.sh"
# shellcheck source=scripts/lib/sluice.sh
source "$LIB/sluice.sh"

require_root "$0"
OUT=$(realpath -m "${1:-$SLUICE_ROOT/ctl/docs}")
NET=$SLUICE_ROOT/scripts/net
METRICS=127.0.0.1:9108 DRIVER=http://127.0.0.1:9515

# --- what is seen ------------------------------------------------------------------------------------------------

# health TYPE: of the services that follow it on the input, all.
health() { sed "0,/^\[\[service.backend/s//[service.health]\ntype = \"$1\"\ninterval = \"1s\"\ntimeout = \"500ms\"\n&/"; }

configuration() {
  conf_runtime | sed "s|^\[runtime\]|&\nmetrics = \"$METRICS\"\nstatus_page = true|"
  conf_ports two-arm
  local api
  # The fourth is not there.
  api="$(conf_backends 4 8080) 10.1.0.14:8080"
  # shellcheck disable=SC2046,SC2086  # one word per backend
  {
    conf_service web "$NAT_VIP4" 80 tcp nat maglev $(conf_backends 4 8080) | health http
    conf_service web-v6 "$NAT_VIP6" 80 tcp nat maglev $(conf_backends 6 8080) | health http
    conf_service api 192.0.2.11 80 tcp nat least-connections $api | health tcp
    conf_service static "$DSR_VIP4" 80 tcp dsr round-robin $(conf_backends 4 80) | health tcp
    conf_service dns "$NAT_VIP4" 53 udp nat maglev $(conf_backends 4 5300)
  }
}

# load NAME CMD...: in the client's namespace, until the end of the run.
load() { daemon_start "load-$1" ip netns exec "$(ns client)" "${@:2}"; }

api_known() { [[ $(stat_of "backend('api', '10.1.0.14:8080')['health']") == down ]]; }

loads() {
  local b
  # Until it is known to be down it would get connections.
  wait_until 30 api_known || die 'the backend that is not there is not found to be down'
  for b in "${BACKENDS[@]}"; do
    daemon_start "udp-$b" ip netns exec "$(ns "$b")" python3 "$NET/udp_echo.py" "$b" 5300 "$(backend4 "$b")"
  done
  mkdir -p "$RUN_DIR/files" "$RUN_DIR/api"
  head -c 4M /dev/urandom >"$RUN_DIR/files/blob"
  load web python3 "$NET/connections.py" "$NAT_VIP4" 80 10000000 4
  load web-v6 python3 "$NET/connections.py" "$NAT_VIP6" 80 10000000 1
  load static python3 "$NET/connections.py" "$DSR_VIP4" 80 10000000 1
  load api python3 "$NET/hold.py" 192.0.2.11 80 60 "$RUN_DIR/api"
  # shellcheck disable=SC2016  # its own variables
  load files bash -c 'while :; do curl -s --limit-rate 8M -o /dev/null "http://$0/files/blob"; done' "$NAT_VIP4"
  # shellcheck disable=SC2016
  load dns bash -c 'while :; do timeout 60 python3 "$0" "$1" 53 1400 8; done' "$NET/udp_client.py" "$NAT_VIP4"
  # shellcheck disable=SC2016
  load nobody bash -c 'while :; do curl -s -m 1 "http://$0:81/"; sleep 0.2; done' "$NAT_VIP4"
}

# --- taking pictures ---------------------------------------------------------------------------------------------

TERMINALS=0
terminal() { env -u TMUX tmux -u -S "$RUN_DIR/tmux-$TERMINALS" -f /dev/null "$@"; }
terminal_end() { [[ -z $RUN_DIR ]] || terminal kill-server 2>/dev/null || true; }
at_prompt() { terminal capture-pane -p -t shot | sed '/^$/d' | tail -n 1 | grep -qx '\$'; }

# shot NAME COLUMNS ROWS COMMAND [SECONDS]: what COMMAND leaves on a terminal; with SECONDS, what is on it after these.
shot() {
  local name=$1 rows=$3
  terminal kill-server 2>/dev/null || true
  TERMINALS=$((TERMINALS + 1))
  terminal new-session -d -s shot -x "$2" -y "$rows" \
    "env PATH='$(dirname "$SLUICECTL"):$PATH' SLUICE_SOCKET='$LB_SOCKET' PS1='\$ ' bash --norc --noprofile"
  wait_until 10 at_prompt
  terminal send-keys -t shot "$4" Enter
  if (($# > 4)); then
    sleep "$5"
  else
    sleep 1
    wait_until 90 at_prompt || die "$4 does not end"
  fi
  # Without blank lines at the end, and without the last prompt, which waits for nothing.
  terminal capture-pane -e -p -t shot |
    awk '{ line[NR] = $0 } NF { last = NR } END { if (line[last] ~ /^\$ *$/) last--; for (i = 1; i <= last; i++) print line[i] }' |
    python3 "$LIB/terminal_svg.py" "$4" >"$OUT/$name.svg"
  step "$name" "$4"
}

driver_answers() { in_ns lb curl -sf "$DRIVER/status" | grep -q '"ready":true'; }

page() {
  daemon_start chromedriver ip netns exec "$(ns lb)" chromedriver --port=9515
  wait_until 60 driver_answers || die 'chromedriver does not answer'
  mkdir "$RUN_DIR/profile"
  run ip netns exec "$(ns lb)" python3 "$LIB/browser.py" "$DRIVER" "$RUN_DIR/profile" screenshot "http://$METRICS/status" \
    "$RUN_DIR/page.png" 1280 1150 60
  pngquant --force --strip --speed 1 --output "$OUT/status-page.png" 48 "$RUN_DIR/page.png"
  step page "http://$METRICS/status"
}

ensure_packages "${SLUICE_BUILD_PACKAGES[@]}" "${SLUICE_NET_PACKAGES[@]}" 'tmux|tmux' 'chromium|chromium' \
  'chromium-driver|chromedriver' 'pngquant|pngquant' 'fonts-dejavu-core|file:/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf'
build_release
sluice_find
mkdir -p "$OUT"
run_open
on_exit terminal_end
hugepages_borrow 576
topology_up two-arm
for backend in "${BACKENDS[@]}"; do nginx_start "$backend"; done
LB_SOCKET=$RUN_DIR/sluice.sock
# From here, so that it is called what it would be called.
cd "$RUN_DIR"
configuration >sluice.toml
lb_start sluice.toml
loads
step load "what clients do"
page
shot status 100 30 'sluicectl status'
shot top 140 23 'sluicectl top --view backends' 45
shot explain 110 40 "sluicectl explain tcp $NAT_CLIENT4:40000 $NAT_VIP4:80"
shot drain 110 12 'sluicectl backend drain api 10.1.0.12:8080 --deadline 5s --then reset --wait'
ls -l "$OUT"
