# shellcheck shell=bash
# shellcheck disable=SC2034  # lists for the scripts that source this
# What the scripts need from the distribution, and the Rust toolchain.
# apt runs only when something is missing, and what it installs is said first.

# package|command that proves it, or a library as pkg:NAME or file:GLOB
SLUICE_BUILD_PACKAGES=(
  'build-essential|cc'
  'pkg-config|pkg-config'
  'libdpdk-dev|pkg:libdpdk'
  'libclang-dev|file:/usr/lib/llvm-*/lib/libclang.so*'
)
SLUICE_NET_PACKAGES=(
  'iproute2|ip'
  'ethtool|ethtool'
  'procps|sysctl'
  'util-linux|setpriv'
  'nginx-light|nginx'
  'curl|curl'
  'iputils-ping|ping'
  'traceroute|traceroute'
  'bind9-dnsutils|dig'
  'dnsmasq-base|dnsmasq'
  'tcpdump|tcpdump'
  'python3|python3'
  'openssl|openssl'
  'ca-certificates|file:/etc/ssl/certs/ca-certificates.crt'
)
# Used by scripts/test.sh only.
SLUICE_TEST_PACKAGES=(
  'shellcheck|shellcheck'
  'prometheus|promtool'
  'dpkg-dev|dpkg-shlibdeps'
  'groff-base|groff'
)

# Used by the benchmarks under perf/ only.
SLUICE_PERF_PACKAGES=(
  'jq|jq'
  'dpdk-dev|dpdk-testpmd'
  'wrk|wrk'
  'haproxy|haproxy'
  'nftables|nft'
)
# What would start for the whole machine if it were installed the usual way: package|service.
SLUICE_SERVICES=('prometheus|prometheus' 'nginx-light|nginx' 'haproxy|haproxy' 'nftables|nftables')

# Administrative tools live in sbin, which a plain user's PATH may lack.
case ":$PATH:" in *:/usr/sbin:*) ;; *) PATH=$PATH:/usr/sbin:/sbin ;; esac

package_present() {
  local proof=${1#*|}
  case $proof in
    pkg:*) pkg-config --exists "${proof#pkg:}" 2>/dev/null ;;
    file:*) compgen -G "${proof#file:}" >/dev/null ;;
    *) command -v "$proof" >/dev/null ;;
  esac
}

# ensure_packages ENTRY...: install what is missing, in one go.
ensure_packages() {
  local entry missing=()
  for entry in "$@"; do
    package_present "$entry" || missing+=("${entry%%|*}")
  done
  if ((${#missing[@]} == 0)); then
    step packages 'all present'
    return
  fi
  command -v apt-get >/dev/null || die "missing: ${missing[*]}" "This is not a Debian system; install the equivalents and run again."
  ((EUID == 0)) || die "missing packages: ${missing[*]}" "Install them: apt-get install ${missing[*]}"
  step packages "installing ${missing[*]}"
  local start=$SECONDS log service
  local -a services=()
  temp_file
  log=$TEMP_FILE
  for service in "${SLUICE_SERVICES[@]}"; do
    [[ " ${missing[*]} " != *" ${service%%|*} "* ]] || services+=("${service#*|}")
  done
  # These packages would start a server for the whole machine; only our own, in namespaces, are wanted.
  ((${#services[@]} == 0)) || forbid_service_start
  if ! run env DEBIAN_FRONTEND=noninteractive apt-get -q update >"$log" 2>&1 ||
    ! run env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "apt-get could not install: ${missing[*]}" "The lines above are its own; mend that and run again."
  fi
  ((${#services[@]} == 0)) || allow_service_start
  # Neither now nor at the next boot.
  for service in "${services[@]}"; do
    if command -v systemctl >/dev/null; then
      systemctl disable "$service.service" >/dev/null 2>&1 || true
    elif command -v update-rc.d >/dev/null; then
      update-rc.d "$service" disable >/dev/null 2>&1 || true
    fi
  done
  for entry in "$@"; do
    package_present "$entry" || die "package ${entry%%|*} is installed, but ${entry#*|} is still not there."
  done
  note "installed in $(seconds_since "$start")"
}

# packages_or_skip ENTRY...: ensure_packages for one test, which ends as skipped (77) where they cannot be had.
packages_or_skip() {
  (
    trap remove_temp_files EXIT
    ensure_packages "$@"
  ) && return
  echo "skipped: without ${*%%|*}"
  exit 77
}

# invoke-rc.d asks policy-rc.d; 101 means "do not start". An existing policy is the administrator's and stays.
SLUICE_POLICY=''
forbid_service_start() {
  [[ ! -e /usr/sbin/policy-rc.d ]] || return 0
  SLUICE_POLICY=/usr/sbin/policy-rc.d
  on_exit allow_service_start
  printf '#!/bin/sh\nexit 101\n' >"$SLUICE_POLICY"
  chmod 755 "$SLUICE_POLICY"
}
allow_service_start() {
  [[ -z $SLUICE_POLICY ]] || rm -f "$SLUICE_POLICY"
  SLUICE_POLICY=''
}

# require_cargo: cargo, new enough for the workspace. Debian's own is too old, so it is not installed from there.
require_cargo() {
  [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]] && PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  local want have
  want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$SLUICE_ROOT/Cargo.toml")
  if ! command -v cargo >/dev/null; then
    die "cargo is not installed; Sluice needs Rust $want or newer." \
      "Debian 12's own packages are older than that. Install the current toolchain with rustup:" \
      "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt" \
      "then run this again (it finds ~/.cargo/bin by itself)."
  fi
  have=$(cd "$SLUICE_ROOT" && cargo --version | awk '{ print $2 }')
  if [[ $(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1) != "$want" ]]; then
    die "cargo is $have; Sluice needs Rust $want or newer." "Update it: rustup update stable"
  fi
}

# sluice_bin_dir: where release binaries are (SLUICE_BIN, or cargo's target directory).
sluice_bin_dir() {
  printf '%s\n' "${SLUICE_BIN:-${CARGO_TARGET_DIR:-$SLUICE_ROOT/target}/release}"
}

# build_release: the release binaries, quietly unless it fails (status 1). SLUICE_BIN names ready-made ones instead.
build_release() {
  if [[ -n ${SLUICE_BIN:-} ]]; then
    step build "none: using $SLUICE_BIN"
    return
  fi
  require_cargo
  local start=$SECONDS log
  step build 'cargo build --release (minutes the first time)'
  temp_file
  log=$TEMP_FILE
  if ! run env -C "$SLUICE_ROOT" cargo build --release --locked --color never >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    printf '%serror:%s the build failed; the lines above are its last.\n' "$C_RED" "$C_OFF" >&2
    return 1
  fi
  note "done in $(seconds_since "$start")"
}
