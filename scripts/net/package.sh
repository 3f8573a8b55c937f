#!/usr/bin/env bash
# The Debian package: built from the binaries that are there, installed into a root of its own, upgraded, removed.
set -euo pipefail
# shellcheck source=scripts/net/harness.sh
source "$(dirname "${BASH_SOURCE[0]}")/harness.sh"

build() {
  local to=$1
  mkdir -p "$to"
  SLUICE_BIN=$(dirname "$SLUICED") SOURCE_DATE_EPOCH=1700000000 "$SLUICE_ROOT/scripts/package.sh" --output "$to"
}

same_twice() {
  build "$RUN_DIR/again" || return
  cmp "$DEB" "$RUN_DIR/again/${DEB##*/}"
}

# dpkg_root ARGS...: dpkg on the throw-away root. What the package depends on is not in there.
dpkg_root() { dpkg --root="$ROOT" --force-not-root --force-depends --force-script-chrootless --log="$RUN_DIR/dpkg.log" "$@"; }

root_make() {
  ROOT=$RUN_DIR/root
  mkdir -p "$ROOT"/{etc,var/lib/dpkg/{info,updates,triggers}}
  : >"$ROOT/var/lib/dpkg/status"
  : >"$ROOT/var/lib/dpkg/available"
  printf 'root:x:0:\n' >"$ROOT/etc/group"
  printf 'root:*::\n' >"$ROOT/etc/gshadow"
  printf 'root:x:0:0::/:/bin/sh\n' >"$ROOT/etc/passwd"
  cp /etc/login.defs "$ROOT/etc/login.defs"
}

has_files() {
  local file absent=0
  for file in usr/sbin/sluiced usr/bin/sluicectl lib/systemd/system/sluiced.service etc/sluice/sluice.toml \
    usr/share/man/man1/sluicectl.1.gz usr/share/man/man1/sluicectl-doctor.1.gz usr/share/man/man1/sluicectl-backend-drain.1.gz \
    usr/share/man/man5/sluice.toml.5.gz usr/share/man/man8/sluiced.8.gz \
    usr/share/bash-completion/completions/{sluicectl,sluiced} usr/share/zsh/vendor-completions/_{sluicectl,sluiced} \
    usr/share/fish/vendor_completions.d/{sluicectl,sluiced}.fish \
    usr/share/doc/sluice/{copyright,changelog.gz,hugepages.md,grafana/sluice.json}; do
    [[ -s $ROOT/$file ]] || { echo "missing: $file"; absent=1; }
  done
  return "$absent"
}

nothing_is_others() {
  local odd
  odd=$(dpkg-deb -c "$DEB" | awk '$2 != "root/root" || substr($1, 6, 1) == "w" || substr($1, 9, 1) == "w" || $1 ~ /s/')
  echo "$odd"
  [[ -z $odd ]]
}

group_is_there() { grep -E '^sluice:' "$ROOT/etc/group"; }
runs() { "$ROOT/usr/sbin/sluiced" --version && "$ROOT/usr/bin/sluicectl" --version; }

# The configuration takes nothing from the machine: by itself it is refused, and with a port it is right.
refuses_as_it_is() {
  local status=0
  "$ROOT/usr/sbin/sluiced" --config "$ROOT/etc/sluice/sluice.toml" --check >"$RUN_DIR/refused.out" 2>&1 || status=$?
  cat "$RUN_DIR/refused.out"
  [[ $status == 1 ]] && grep -q 'there is no \[\[port\]\]' "$RUN_DIR/refused.out"
}
right_without_hashes() {
  sed -E 's/^# (\[|[a-z_]+ = )/\1/' "$ROOT/etc/sluice/sluice.toml" | grep -vE '^(workers|control_cpus) = ' >"$RUN_DIR/filled.toml"
  "$ROOT/usr/sbin/sluiced" --config "$RUN_DIR/filled.toml" --check
}

pages_render() {
  local page
  for page in "$ROOT"/usr/share/man/man?/*.gz; do
    # Warnings of groff are mistakes of a page.
    if ! zcat "$page" | groff -man -Tutf8 -ww >"$RUN_DIR/page.txt" 2>"$RUN_DIR/groff.out" ||
      [[ ! -s $RUN_DIR/page.txt || -s $RUN_DIR/groff.out ]]; then
      echo "$page"
      cat "$RUN_DIR/groff.out"
      return 1
    fi
  done
}
page_names_keys() {
  zcat "$ROOT/usr/share/man/man5/sluice.toml.5.gz" >"$RUN_DIR/toml.5"
  local key
  for key in socket_group operators max_connections tunnel_sources panic_threshold; do
    # A hyphen or underscore may be escaped.
    grep -q "$key" "$RUN_DIR/toml.5" || { echo "$key is missing"; return 1; }
  done
}
bash_completes() {
  # shellcheck disable=SC2016
  bash -c 'source "$0" && COMP_WORDS=(sluicectl doc) COMP_CWORD=1 && _sluicectl sluicectl doc sluicectl && printf "%s\n" "${COMPREPLY[@]}"' \
    "$ROOT/usr/share/bash-completion/completions/sluicectl" | grep -x doctor
}

# unit_is_right: as systemd reads it. The programs it names are in the throw-away root, /bin/kill is not.
unit_is_right() {
  mkdir -p "$ROOT/bin"
  cp /bin/kill "$ROOT/bin/kill"
  cp /lib/systemd/system/*.target /lib/systemd/system/*.slice "$ROOT/lib/systemd/system/"
  systemd-analyze verify --root="$ROOT" --man=no "$ROOT/lib/systemd/system/sluiced.service" >"$RUN_DIR/verify.out" 2>&1
  local status=$?
  # Of units that this root lacks, and nothing about ours.
  cat "$RUN_DIR/verify.out"
  ((status == 0)) && ! grep 'sluiced.service' "$RUN_DIR/verify.out"
}
# exposure_at_most N: systemd's own score, 0 to 100.
exposure_at_most() { systemd-analyze security --offline=true --root="$ROOT" --threshold="$1" --no-pager sluiced.service; }

keeps_changes() {
  echo '# mine' >>"$ROOT/etc/sluice/sluice.toml"
  dpkg_root --force-confold -i "$DEB" && grep -q '^# mine' "$ROOT/etc/sluice/sluice.toml"
}
removed_but_for_conffiles() {
  dpkg_root -r sluice && [[ ! -e $ROOT/usr/sbin/sluiced && -e $ROOT/etc/sluice/sluice.toml ]]
}
purged() { dpkg_root -P sluice && [[ ! -e $ROOT/etc/sluice ]]; }

SLUICED=none test_begin 'package: build, install, upgrade, remove'
unset SLUICED
sluice_find
for tool in dpkg-deb dpkg-shlibdeps strip groff; do
  command -v "$tool" >/dev/null || die "$tool is not installed" 'Install it: apt-get install dpkg-dev binutils groff-base'
done

scene 'build'
build "$RUN_DIR/built" >"$RUN_DIR/built.out" || { cat "$RUN_DIR/built.out"; die 'the package was not built'; }
DEB=$(tail -n 1 "$RUN_DIR/built.out")
check 'it says where it is' test -s "$DEB"
check 'the same again gives the same bytes' same_twice
check 'everything is root'"'"'s and nobody else may write it' nothing_is_others
# shellcheck disable=SC2016
check 'DPDK and its drivers are depended on' sh -c 'dpkg-deb -f "$1" Depends | tee /dev/stderr | grep -q "librte-eal.*librte-mempool-ring"' sh "$DEB"
# shellcheck disable=SC2016
check 'the configuration is a conffile' sh -c 'dpkg-deb -I "$1" conffiles | grep -qx /etc/sluice/sluice.toml' sh "$DEB"
if command -v lintian >/dev/null; then
  check 'lintian has no error' lintian --fail-on error --tag-display-limit 0 "$DEB"
fi

scene 'install'
root_make
check 'dpkg installs it' dpkg_root -i "$DEB"
check 'every file is there' has_files
check 'the group sluice is made' group_is_there
check 'the programs run' runs
check 'the configuration takes nothing from the machine' refuses_as_it_is
check 'and is right once its lines are wanted' right_without_hashes
check 'the manual pages are in order' pages_render
check 'sluice.toml(5) has the keys' page_names_keys
check 'bash completes' bash_completes
if command -v systemd-analyze >/dev/null; then
  check 'systemd reads the unit' unit_is_right
  check 'and finds it well confined' exposure_at_most 30
fi

scene 'upgrade and remove'
check 'an upgrade keeps what was changed' keeps_changes
check 'removed, the configuration stays' removed_but_for_conffiles
check 'purged, it is gone' purged
test_end
