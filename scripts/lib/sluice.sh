# shellcheck shell=bash
# sluiced and sluicectl: configuration, start, stop, and the two equations that must hold.

# sluice_find: sets SLUICED and SLUICECTL.
sluice_find() {
  local dir
  dir=$(sluice_bin_dir)
  SLUICED=$dir/sluiced SLUICECTL=$dir/sluicectl
  [[ -x $SLUICED && -x $SLUICECTL ]] || die "no sluiced and sluicectl in $dir" "Build them: cargo build --release"
}

ctl() { "$SLUICECTL" --socket "$LB_SOCKET" "$@"; }

# --- configuration -----------------------------------------------------------------------------------------------

# CPUs: the control thread on the first, the worker on the second, or both on the only one.
conf_cpus() {
  local -a cpus
  mapfile -t cpus < <(allowed_cpus)
  CONTROL_CPU=${cpus[0]} WORKER_CPU=${cpus[1]:-${cpus[0]}}
}

# conf_runtime: the [runtime] section. MEMORY, HUGEPAGES and LB_SOCKET come from the caller.
conf_runtime() {
  conf_cpus
  cat <<CONF
[runtime]
workers = [$WORKER_CPU]
control_cpus = [$CONTROL_CPU]
socket = "$LB_SOCKET"
hugepages = ${HUGEPAGES:-false}
memory = "${MEMORY:-512M}"
max_connections = 100000
CONF
}

# conf_ports one-arm|two-arm: ports and routes as in topology.sh.
conf_ports() {
  if [[ $1 == two-arm ]]; then
    cat <<'CONF'

[[port]]
name = "wan"
device = "net_af_packet0,iface=wan"
addresses = ["10.0.0.2/24", "2001:db8:a::2/64"]

[[port]]
name = "lan"
device = "net_af_packet1,iface=lan"
addresses = ["10.1.0.1/24", "2001:db8:b::1/64"]

[[route]]
to = "0.0.0.0/0"
via = "10.0.0.1"

[[route]]
to = "::/0"
via = "2001:db8:a::1"
CONF
  else
    cat <<'CONF'

[[port]]
name = "lan"
device = "net_af_packet0,iface=lan"
addresses = ["10.1.0.1/24", "2001:db8:b::1/64"]

[[route]]
to = "0.0.0.0/0"
via = "10.1.0.254"

[[route]]
to = "::/0"
via = "2001:db8:b::fe"
CONF
  fi
}

# conf_service NAME VIP PORTS PROTOCOL MODE SCHEDULER BACKEND...
conf_service() {
  cat <<CONF

[[service]]
name = "$1"
vip = "$2"
ports = "$3"
protocol = "$4"
mode = "$5"
scheduler = "$6"
CONF
  shift 6
  local backend
  for backend in "$@"; do printf '[[service.backend]]\naddress = "%s"\n' "$backend"; done
}

# conf_backends 4|6 PORT: "10.1.0.11:80 ..." for all three.
conf_backends() {
  local b
  for b in "${BACKENDS[@]}"; do
    if [[ $1 == 4 ]]; then echo "$(backend4 "$b"):$2"; else echo "[$(backend6 "$b")]:$2"; fi
  done
}

# --- the daemon --------------------------------------------------------------------------------------------------

# lb_start CONFIG: sluiced in the namespace lb; back when it answers on its socket. Sets LB_PID.
lb_start() {
  daemon_start sluiced ip netns exec "$(ns lb)" "$SLUICED" --config "$1"
  LB_PID=$DAEMON_PID
  if ! wait_until 60 lb_answers_or_gone || pid_gone "$LB_PID"; then
    lb_log >&2
    die 'sluiced did not start; its log is above'
  fi
}

lb_answers_or_gone() { ctl status || pid_gone "$LB_PID"; }

lb_stop() { daemon_stop "$LB_PID"; }

lb_log() { tail -n 40 "$RUN_DIR/log/sluiced.log"; }

# --- conservation ------------------------------------------------------------------------------------------------

# conservation: rx = forwarded + consumed + punted + held + drops, and tx = forwarded + generated, exactly.
# The counters are read while the network is quiet but not dead, so a few packets may be between two of them:
# tried again for two seconds. Prints the figures; fails when they do not add up.
conservation() {
  local deadline=$((SECONDS + 3)) out
  while :; do
    if out=$(ctl -o json stats | python3 "$SLUICE_ROOT/scripts/lib/conservation.py" 2>&1); then
      echo "$out"
      return 0
    fi
    ((SECONDS < deadline)) || break
    sleep 0.1
  done
  echo "$out"
  return 1
}

# stat_of EXPRESSION: a value out of the statistics, as a Python expression over s, e.g. 's["generation"]', with
# service(NAME) and backend(SERVICE, ADDRESS) to reach into them. Prints -1 when there is no answer.
stat_of() {
  local stats
  if ! stats=$(ctl -o json stats); then
    echo -1
    return 1
  fi
  python3 -c 'import json, sys
s = json.load(sys.stdin)
service = lambda name: next(v for v in s["services"] if v["name"] == name)
backend = lambda name, address: next(b for b in service(name)["backends"] if b["address"] == address)
print(eval(sys.argv[1]))' "$1" <<<"$stats"
}
