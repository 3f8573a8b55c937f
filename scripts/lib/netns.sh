# shellcheck shell=bash
# Namespaces, veth pairs, bridges and addresses. Everything is made inside namespaces of the run:
# nothing ever appears in the namespace of the machine, whose own interfaces are not touched.

# ns NAME: the full name of a namespace of this run.
ns() { echo "sluice-$RUN_ID-$1"; }

# in_ns NAME CMD...
in_ns() {
  local name=$1
  shift
  ip netns exec "$(ns "$name")" "$@"
}

# ns_ip NAME ARGS...: ip(8) in a namespace.
ns_ip() {
  local name=$1
  shift
  ip -n "$(ns "$name")" "$@"
}

# ns_add NAME: a namespace with loopback up, no forwarding, no reverse path filter, and IPv6 addresses usable at once.
ns_add() {
  ip netns add "$(ns "$1")" || die "cannot make a network namespace" "This needs root with CAP_NET_ADMIN and CAP_SYS_ADMIN."
  ns_sysctl "$1" net.ipv4.ip_forward=0 \
    net.ipv4.conf.{all,default}.rp_filter=0 \
    net.ipv4.conf.{all,default}.accept_redirects=0 \
    net.ipv4.conf.{all,default}.send_redirects=0 \
    net.ipv6.conf.{all,default}.accept_dad=0 \
    net.ipv6.conf.{all,default}.dad_transmits=0 \
    net.ipv6.conf.{all,default}.accept_ra=0 \
    net.ipv6.conf.{all,default}.autoconf=0 \
    net.ipv6.conf.{all,default}.accept_redirects=0
  ns_ip "$1" link set lo up
}

ns_sysctl() {
  local name=$1
  shift
  in_ns "$name" sysctl -qw "$@"
}

# wire A IFA B IFB: a veth pair between two namespaces, both ends down, offloads off on both.
wire() {
  ns_ip "$1" link add "$2" type veth peer name "$4" netns "$(ns "$3")"
  offloads_off "$1" "$2"
  offloads_off "$3" "$4"
}

# offloads_off NAME IF: a veth with offloads on carries unfinished checksums and segments larger than the MTU, which a
# packet socket then sees; and with rx on, the receiving kernel takes every checksum for good.
offloads_off() {
  local feature features=(tx rx sg tso gso gro tx-udp-segmentation)
  local -a all=()
  for feature in "${features[@]}"; do all+=("$feature" off); done
  in_ns "$1" ethtool -K "$2" "${all[@]}" >/dev/null 2>&1 && return
  # One that this kernel does not know fails the whole command: then one at a time.
  for feature in "${features[@]}"; do
    in_ns "$1" ethtool -K "$2" "$feature" off >/dev/null 2>&1 || true
  done
}

# address NAME IF ADDRESS...: IPv4 or IPv6, the latter without duplicate address detection.
address() {
  local name=$1 dev=$2 a
  shift 2
  for a in "$@"; do
    case $a in
      *:*) ns_ip "$name" -6 address add "$a" dev "$dev" nodad ;;
      *) ns_ip "$name" address add "$a" dev "$dev" ;;
    esac
  done
}

# route NAME TO ARGS...
route() {
  local name=$1 to=$2
  shift 2
  case $to in
    *:*) ns_ip "$name" -6 route add "$to" "$@" ;;
    *) ns_ip "$name" route add "$to" "$@" ;;
  esac
}

# silent NAME IF: up, but the kernel of that namespace answers nothing on it: no address of either family.
# A DPDK AF_PACKET port reads a copy of what arrives; the kernel still gets its own and must ignore it.
silent() {
  ns_sysctl "$1" "net.ipv6.conf.$2.disable_ipv6=1"
  ns_ip "$1" link set "$2" up
}

# bridge_add NAME BRIDGE IF...: a plain learning switch.
bridge_add() {
  local name=$1 bridge=$2 port
  shift 2
  ns_ip "$name" link add "$bridge" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
  silent "$name" "$bridge"
  for port in "$@"; do
    ns_ip "$name" link set "$port" master "$bridge"
    silent "$name" "$port"
  done
}

# links_ready NAME...: every veth in these namespaces has carrier and a queue, every bridge port forwards. The kernel
# does this a moment after "up", and until then drops what is sent.
links_ready() {
  local name
  for name in "$@"; do
    # shellcheck disable=SC2016
    in_ns "$name" sh -c '
      for dev in /sys/class/net/*; do
        [ "${dev##*/}" = lo ] || [ "$(cat "$dev/operstate")" = up ] || exit 1
      done
      for state in /sys/class/net/*/brport/state; do
        [ ! -e "$state" ] || [ "$(cat "$state")" = 3 ] || exit 1
      done' || return 1
  done
}

mac_of() { in_ns "$1" cat "/sys/class/net/$2/address"; }
