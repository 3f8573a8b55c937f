#!/usr/bin/env bash
# sluicectl top on a real terminal (tmux), with sluiced under load.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# A server of our own, another one each time, with no configuration of the user's.
TERMINALS=0
terminal() { env -u TMUX tmux -u -S "$RUN_DIR/tmux-$TERMINALS" -f /dev/null "$@"; }
terminal_end() { [[ -z $RUN_DIR ]] || terminal kill-server 2>/dev/null || true; }

# top_start [VARIABLE=VALUE...] [OPTION...]: in a shell, so that its end and the state of the terminal are seen.
top_start() {
  terminal kill-server 2>/dev/null || true
  TERMINALS=$((TERMINALS + 1))
  terminal new-session -d -s top -x 120 -y 30 "env PS1='shell> ' bash --norc --noprofile"
  terminal send-keys -t top "clear; env $* $SLUICECTL --socket $LB_SOCKET top; echo ended with \$?" Enter
}
keys() { terminal send-keys -t top "$@"; }
screen() { terminal capture-pane -p -t top; }
colors() { terminal capture-pane -e -p -t top; }
sees() { screen | grep -qE -- "$1"; }
soon() { wait_until 20 sees "$1" || { echo "never seen: $1"; screen; return 1; }; }
# A colour of the first eight, or by its number (ECMA-48, SGR 30 to 48); not those that take it back.
has_colors() { colors | grep -qE $'\e\\[([0-9;]*;)?([34][0-7]|[34]8;5;[0-9]+)m'; }
process() { pgrep -f -- "^$SLUICECTL --socket $LB_SOCKET top"; }

# The other screen is left, the cursor is back, and letters are echoed.
restored() {
  soon "ended with $1" && keys 'echo a''b' Enter && soon '^ab$' &&
    [[ $(terminal display -p -t top '#{alternate_on} #{cursor_flag}') == '0 1' ]]
}

# rate_of ROW COLUMN: a number of the one-line samples that programs read.
agrees() {
  ctl -o json top --interval 2s | python3 -c '
import json, sys
sample = json.load(sys.stdin)
service = next(one for one in sample["services"] if one["name"] == "nat4")
print(service, sample["total"])
assert abs(sample["interval_seconds"] - 2) < 0.5
assert service["packets_in_per_second"] > 0 and service["bits_out_per_second"] > 0 and service["connections_per_second"] > 0
assert sample["total"]["rx_packets_per_second"] >= service["packets_in_per_second"]
assert sum(one["packets_in_per_second"] for one in sample["backends"] if one["service"] == "nat4") <= service["packets_in_per_second"] + 1
'
}
lines() {
  local out
  out=$(timeout 20 "$SLUICECTL" --socket "$LB_SOCKET" -o jsonl top --interval 200ms | head -n 3)
  [[ $(wc -l <<<"$out") == 3 ]] && python3 -c 'import json, sys; [json.loads(line) for line in sys.stdin]' <<<"$out"
}
no_terminal() {
  local out status=0
  out=$(ctl top 2>&1 </dev/null) || status=$?
  echo "$status: $out"
  [[ $status == 2 && $out == *--once* ]]
}

packages_or_skip 'tmux|tmux'
test_begin 'top'
on_exit terminal_end
scene two-arm
up two-arm
traffic_start "$(url "$NAT_VIP4")"

check 'without a terminal it says what to use' no_terminal
check 'one sample as JSON agrees with itself' agrees
check 'a line for each sample' lines

top_start
check 'services with their rates' soon 'nat4 +tcp 192.0.2.10:80 +3 of 3 .*[1-9]'
check 'and totals' soon 'rx [1-9].* pkt/s'
check 'in colours' has_colors
keys Tab
check 'backends' soon '10.1.0.11:8080 +nat4 +unchecked'
keys 4
check 'drops, or that there are none' soon 'nothing was dropped|DROPS/s'
keys 3
check 'workers' soon 'CPU.*BUSY %'
keys 2 / n a t 4 Enter
check 'a filter' soon 'filter "nat4"'
keys s r
check 'another order' soon 'OUT|IN bit/s▲'
terminal resize-window -t top -x 40 -y 6
check 'a small window' soon '^BACKEND +'
terminal resize-window -t top -x 120 -y 30
lb_stop
check 'it says that the daemon is away' soon 'no answer for [0-9]+ s, trying on'
lb_start "$LB_CONFIG"
check 'and goes on when it is back' soon '^sluice .* up 00:00:0'
keys q
check 'q ends it and gives the terminal back' restored 0

top_start
soon 'nat4 ' >/dev/null
keys C-c
check 'so does Ctrl-C' restored 0

top_start
soon 'nat4 ' >/dev/null
for pid in $(process); do kill -TERM "$pid"; done
check 'so does SIGTERM' restored 0

top_start NO_COLOR=1
check 'with NO_COLOR' soon 'nat4 '
no_colors() { ! has_colors; }
check 'there are no colours' no_colors
keys q
traffic_stop
after_all
bed_down
test_end
