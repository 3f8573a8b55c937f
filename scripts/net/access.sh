#!/usr/bin/env bash
# Who may do what through the control socket: strangers cannot connect, the socket's group looks, operators change.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

# Users and groups of this test alone: the daemon and the commands see these files in place of the machine's, in mount
# namespaces of their own. Numbers that no distribution gives away.
accounts_make() {
  cp /etc/passwd "$RUN_DIR/passwd"
  cp /etc/group "$RUN_DIR/group"
  cat >>"$RUN_DIR/passwd" <<'TEXT'
sl-stranger:x:64701:64701::/:/bin/sh
sl-reader:x:64702:64702::/:/bin/sh
sl-alice:x:64703:64703::/:/bin/sh
sl-bob:x:64704:64704::/:/bin/sh
TEXT
  cat >>"$RUN_DIR/group" <<'TEXT'
sl-sluice:x:64700:sl-reader,sl-alice,sl-bob
sl-netops:x:64710:sl-bob
TEXT
}

# with_accounts CMD...
with_accounts() {
  # shellcheck disable=SC2016
  unshare --mount sh -c 'mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group && exec "$@"' "$RUN_DIR" "$@"
}

# as USER CMD...: with the user's own groups, as after logging in.
as() {
  local user=$1
  shift
  with_accounts setpriv --reuid="$user" --regid="$(awk -F: -v u="$user" '$1 == u { print $4 }' "$RUN_DIR/passwd")" --init-groups "$@"
}
ctl_as() { as "$1" "$RUN_DIR/sluicectl" --socket "$LB_SOCKET" "${@:2}"; }

# conf_access OPERATORS: conf_all for the group, and these operators.
conf_access() {
  conf_all two-arm | sed "s|^socket = .*|&\nsocket_group = \"sl-sluice\"\noperators = [$1]|"
}

# start_with_accounts: lb_start, with the accounts of the test.
start_with_accounts() {
  # shellcheck disable=SC2016
  daemon_start sluiced ip netns exec "$(ns lb)" sh -c 'mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group && exec "$@"' \
    "$RUN_DIR" "$SLUICED" --config "$LB_CONFIG"
  LB_PID=$DAEMON_PID
  if ! wait_until 60 lb_answers_or_gone || pid_gone "$LB_PID"; then
    lb_log >&2
    die 'sluiced did not start; its log is above'
  fi
}

ends_with() { # STATUS PATTERN CMD...
  local want=$1 pattern=$2 status=0 out
  shift 2
  out=$("$@" 2>&1) || status=$?
  echo "$out"
  echo "exit status $status, want $want"
  [[ $status == "$want" ]] && grep -qE -- "$pattern" <<<"$out"
}

mode_is() {
  local got
  got=$(stat -c '%a %u:%g' "$LB_SOCKET")
  echo "$got"
  [[ $got == "$1" ]]
}

not_in_log() { ! grep -F "$1" "$RUN_DIR/log/sluiced.log"; }

change=(backend set-weight nat4)
hangup_with() {
  local before
  before=$(stat_of 's["generation"]')
  conf_access "$1" >"$LB_CONFIG"
  kill -HUP "$LB_PID"
  wait_until 30 generation_above "$before"
}
generation_above() { (($(stat_of 's["generation"]') > $1)); }

test_begin 'access: who may do what'
conf_cpus
accounts_make
cp "$SLUICECTL" "$RUN_DIR/sluicectl" # where everybody may read it
chmod 755 "$RUN_DIR/sluicectl"
bed_up two-arm
b1=$(backend4 b1):8080

scene 'the socket is for its group'
conf_access '"sl-alice", "@sl-netops"' >"$LB_CONFIG"
start_with_accounts
check 'mode 0660, root and the group' mode_is '660 0:64700'
check 'a stranger cannot connect, and hears which group to join' ends_with 3 'root:sl-sluice with mode 0660' ctl_as sl-stranger status
check 'and what to do' ends_with 3 'usermod -aG' ctl_as sl-stranger status
check 'a member reads' ctl_as sl-reader status
check 'statistics too' ctl_as sl-reader -o json stats
check 'but changes nothing' ends_with 1 'runtime.operators' ctl_as sl-reader "${change[@]}" "$b1" 7
check 'nor has a configuration parsed' ends_with 1 'runtime.operators' ctl_as sl-reader config apply "$LB_CONFIG"
check 'an operator changes' ctl_as sl-alice "${change[@]}" "$b1" 7
check 'a member of a group of operators too' ctl_as sl-bob "${change[@]}" "$b1" 8
check 'and root' ctl "${change[@]}" "$b1" 100
check 'the log says nothing of unknown names' not_in_log 'this machine has no'

scene 'operators come and go with the configuration'
check 'SIGHUP without alice' hangup_with '"@sl-netops", "sl-nobody-knows"'
check 'she is refused' ends_with 1 'nothing was changed' ctl_as sl-alice "${change[@]}" "$b1" 9
check 'bob is not' ctl_as sl-bob "${change[@]}" "$b1" 100
check 'a name that the machine does not know is told' grep -q 'this machine has no "sl-nobody-knows"' "$RUN_DIR/log/sluiced.log"
check 'another group needs a restart' ends_with 1 'socket_group.*restart' ctl config apply <(conf_all two-arm)
check 'clients are served' http_all "$(url "$NAT_VIP4")" 30
after_all
lb_stop
LB_PID=''

scene 'a group that is not there'
conf_access '' | sed 's/sl-sluice/sl-nowhere/' >"$LB_CONFIG"
check 'it does not start, and says what to do' ends_with 1 'no group "sl-nowhere".*groupadd' ip netns exec "$(ns lb)" "$SLUICED" --config "$LB_CONFIG"
check 'no socket is left' test ! -e "$LB_SOCKET"
test_end
