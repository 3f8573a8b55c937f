#!/usr/bin/env bash
# The Debian package, in one command: see usage below.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/package.sh [--output DIR] [--help]

Builds the release binaries and puts them, with the systemd unit, a configuration to begin with, manual pages, completion
for bash, zsh and fish, and the Grafana dashboard, into sluice_VERSION_ARCH.deb. Prints its path.

  --output DIR   where the package goes (default: target/package)

SLUICE_BIN=DIR packs sluiced and sluicectl from DIR in place of building them.
SLUICE_MAINTAINER='NAME <ADDRESS>' says who answers for the package.
TEXT
}

LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"
# shellcheck source=scripts/lib/packages.sh
source "$LIB/packages.sh"
cd "$SLUICE_ROOT"

OUTPUT=${CARGO_TARGET_DIR:-$SLUICE_ROOT/target}/package
while (($#)); do
  case $1 in
    --output)
      [[ -n ${2:-} ]] || { usage >&2; exit 2; }
      OUTPUT=$2
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

for tool in dpkg-deb dpkg-shlibdeps strip; do
  command -v "$tool" >/dev/null || die "$tool is not installed" 'Install it: apt-get install dpkg-dev binutils'
done
if [[ -z ${SLUICE_BIN:-} ]]; then build_release >&2 || exit 1; fi
BIN=$(sluice_bin_dir)
[[ -x $BIN/sluiced && -x $BIN/sluicectl ]] || die "no sluiced and sluicectl in $BIN" 'Build them: cargo build --release'

VERSION=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' Cargo.toml)
ARCH=$(dpkg --print-architecture)
MAINTAINER=${SLUICE_MAINTAINER:-The Sluice authors <sluice@localhost>}
# The same sources give the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH
umask 022

WORK=$(mktemp -d)
remove_work() { rm -rf "$WORK"; }
on_exit remove_work
TREE=$WORK/tree

# put MODE FILE PLACE: one file into the package.
put() { install -D -m "$1" "$2" "$TREE/$3"; }
# put_text PLACE: standard input into the package, compressed where Debian wants that.
put_text() {
  mkdir -p "$TREE/$(dirname "$1")"
  case $1 in
    *.gz) gzip -9n >"$TREE/$1" ;;
    *) cat >"$TREE/$1" ;;
  esac
}

put 755 "$BIN/sluiced" usr/sbin/sluiced
put 755 "$BIN/sluicectl" usr/bin/sluicectl
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$TREE/usr/sbin/sluiced" "$TREE/usr/bin/sluicectl"
put 644 scripts/package/sluiced.service lib/systemd/system/sluiced.service
put 644 scripts/package/sluice.toml etc/sluice/sluice.toml
put 644 scripts/package/lintian-overrides usr/share/lintian/overrides/sluice

"$BIN/sluicectl" manual "$WORK/man"
for page in "$WORK"/man/*; do
  section=${page##*.}
  put_text "usr/share/man/man$section/${page##*/}.gz" <"$page"
done
for program in sluicectl sluiced; do
  complete=("$BIN/sluicectl" completion)
  [[ $program == sluicectl ]] || complete+=(--daemon)
  "${complete[@]}" bash | put_text "usr/share/bash-completion/completions/$program"
  "${complete[@]}" zsh | put_text "usr/share/zsh/vendor-completions/_$program"
  "${complete[@]}" fish | put_text "usr/share/fish/vendor_completions.d/$program.fish"
done

DOC=usr/share/doc/sluice
put 644 ctl/grafana/sluice.json "$DOC/grafana/sluice.json"
put 644 hugepages.md "$DOC/hugepages.md"
put 644 README.md "$DOC/README.md"
put_text "$DOC/copyright" <<TEXT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Sluice

Files: *
Copyright: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y) The Sluice authors
License: Apache-2.0
 On Debian systems, the full text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
TEXT
put_text "$DOC/changelog.gz" <<TEXT
sluice ($VERSION) unstable; urgency=medium

  * Version $VERSION.

 -- $MAINTAINER  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
TEXT

# What the programs are linked with; and, where that is DPDK's libraries, the drivers, which DPDK loads by itself.
mkdir -p "$WORK/debian"
printf 'Source: sluice\n\nPackage: sluice\nArchitecture: any\n' >"$WORK/debian/control"
depends=$(cd "$WORK" && dpkg-shlibdeps -O tree/usr/sbin/sluiced tree/usr/bin/sluicectl 2>"$WORK/shlibdeps.log") ||
  { cat "$WORK/shlibdeps.log" >&2; die 'dpkg-shlibdeps failed'; }
depends=${depends#shlibs:Depends=}
recommends=''
if [[ $depends =~ librte-eal([0-9]+) ]]; then
  abi=${BASH_REMATCH[1]}
  depends+=", librte-mempool-ring$abi, librte-bus-pci$abi, librte-bus-vdev$abi"
  recommends='librte-meta-net, '
fi

mkdir -p "$TREE/DEBIAN"
cat >"$TREE/DEBIAN/control" <<TEXT
Package: sluice
Version: $VERSION
Architecture: $ARCH
Maintainer: $MAINTAINER
Installed-Size: $(du -k -s --apparent-size --exclude=DEBIAN "$TREE" | cut -f 1)
Depends: $depends, passwd
Recommends: ${recommends}kmod
Suggests: dpdk, driverctl, prometheus
Section: net
Priority: optional
Description: layer-4 load balancer over DPDK
 Sluice drives dedicated NICs from user space, with a polling worker pinned to
 each core, and balances TCP and UDP over IPv4 and IPv6: NAT, full NAT, and
 direct server return, also through tunnels. It is configured in one TOML file
 and controlled over a Unix socket with sluicectl.
TEXT
echo /etc/sluice/sluice.toml >"$TREE/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 755 "scripts/package/$script" "$TREE/DEBIAN/$script"; done
(cd "$TREE" && find usr lib -type f -print0 | sort -z | xargs -0 md5sum) >"$TREE/DEBIAN/md5sums"

mkdir -p "$OUTPUT"
deb=$OUTPUT/sluice_${VERSION}_$ARCH.deb
dpkg-deb --root-owner-group -Zxz --build "$TREE" "$deb" >&2
echo "$deb"
