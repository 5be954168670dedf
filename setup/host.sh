#!/bin/sh
# Prepares a Debian 12 or 13 host, as root: installs the packages that are missing, makes .venv with the pinned
# requirements and the launcher .venv/bin/katapy. A second call finds everything in place in well under a second.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
checkout=$(dirname "$here")
venv=$checkout/.venv
stamps=/var/lib/katapy/setup
virtiofsd=/usr/local/libexec/katapy/virtiofsd

say() { echo "setup: $*"; }
fail() { echo "setup: error: $*" >&2; exit 1; }

missing() { # names of packages that are not installed
    dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii *//p' >"$work/installed"
    printf '%s\n' "$@" | grep -vxFf "$work/installed" || :
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >"$work/apt" 2>&1 || { tail -5 "$work/apt" >&2; return 1; }; }

updated=
update() { # once a run
    [ -n "$updated" ] && return
    say "apt-get update"
    apt update || fail "apt-get update failed: are the mirrors in /etc/apt/sources.list* reachable?"
    updated=yes
}

install() { # [-t SUITE] PACKAGES: those that are missing
    suite=
    [ "$1" != -t ] || { suite="-t $2"; shift 2; }
    wanted=$(missing "$@")
    [ -n "$wanted" ] || return 0
    update
    say "installing" $wanted
    # shellcheck disable=SC2086
    apt install --no-install-recommends --no-remove $suite $wanted || fail "could not install: $wanted"
}

backports() { # Debian 12's own QEMU 7.2 corrupts guests under emulation
    grep -rqs '^[^#]*bookworm-backports' /etc/apt/sources.list /etc/apt/sources.list.d && return
    say "adding /etc/apt/sources.list.d/katapy-backports.list"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main" \
        >/etc/apt/sources.list.d/katapy-backports.list
    updated=
}

bookworm_qemu() {
    version=$(dpkg-query -W -f '${Version}' qemu-system-x86 2>/dev/null || :)
    if [ -z "$version" ] || dpkg --compare-versions "$version" lt 1:8; then
        update
        say "installing QEMU from bookworm-backports"
        apt install --no-install-recommends --no-remove -t bookworm-backports qemu-system-x86 ipxe-qemu seabios ||
            fail "could not install qemu-system-x86 from bookworm-backports"
    fi
    install ipxe-qemu
}

bookworm_virtiofsd() { # newer QEMU ships none, and Debian 13's needs a newer libc: take the one of QEMU 7.2
    install libcap-ng0 libglib2.0-0 libnuma1 libseccomp2
    [ ! -x "$virtiofsd" ] || return 0
    update
    say "unpacking QEMU 7.2's virtiofsd to $virtiofsd"
    (cd "$work" && apt -o APT::Sandbox::User=root download 'qemu-system-common=1:7.2*') ||
        fail "could not download qemu-system-common 7.2"
    dpkg-deb -x "$work"/qemu-system-common_*.deb "$work/qemu"
    mkdir -p "${virtiofsd%/*}"
    install_file "$work/qemu/usr/lib/qemu/virtiofsd" "$virtiofsd"
}

install_file() { cp "$1" "$2.new" && chmod 755 "$2.new" && mv "$2.new" "$2"; }

packages() {
    # shellcheck source=/dev/null
    release=$(. /etc/os-release && echo "${VERSION_ID:-}")
    case $release in
    12) backports; bookworm_qemu; bookworm_virtiofsd ;;
    13) install qemu-system-x86 virtiofsd ;;
    *) fail "this is not Debian 12 or 13: what katapy needs from the host is listed in setup/host.sh" ;;
    esac
    install python3-venv mmdebstrap erofs-utils zstd cpio debian-archive-keyring iproute2 podman conmon \
        catatonit containerd runc crun busybox-static make e2fsprogs iptables nftables netavark aardvark-dns containernetworking-plugins
}

environment() {
    wanted=$(cat "$here/requirements.txt" "$here/requirements-dev.txt" | cksum)
    if [ "$(cat "$venv/.requirements" 2>/dev/null)" != "$wanted" ]; then
        say "python packages in $venv"
        [ -x "$venv/bin/python3" ] || /usr/bin/python3 -m venv "$venv"
        "$venv/bin/python3" -m pip --disable-pip-version-check install --quiet -r "$here/requirements-dev.txt"
        echo "$wanted" >"$venv/.requirements"
    fi
    "$venv/bin/python3" "$here/launcher.py" "$checkout" "$venv/bin/katapy"
}

[ "$(id -u)" = 0 ] || fail "must run as root"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The stamp says what was there: any change of packages, of this script or of virtiofsd makes it stale.
seen() { { cat "$0" /var/lib/dpkg/status; ls -l "$virtiofsd" 2>/dev/null; } | cksum; }
state=$(seen)
if [ "$(cat "$stamps/packages" 2>/dev/null)" != "$state" ]; then
    packages
    mkdir -p "$stamps"
    seen >"$stamps/packages"
fi
environment
say "done"
