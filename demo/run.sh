#!/bin/sh
# From nothing to a container in its own virtual machine, showing how long each phase takes. As root.
set -eu

checkout=$(cd "$(dirname "$0")/.." && pwd)
cache=/var/lib/katapy/demo
suite=${SUITE:-trixie}
bundle=$cache/$suite
katapy=$checkout/.venv/bin/katapy
id=demo-$$

title() { printf '\n== %s\n' "$*"; }
milliseconds() { date +%s%3N; }

phase() { # TITLE COMMAND...
    title "$1"
    shift
    began=$(milliseconds)
    "$@"
    took=$(($(milliseconds) - began))
    printf '   (%d.%01d s)\n' $((took / 1000)) $((took % 1000 / 100))
}

root_file_system() { # a Debian of essential packages, kept for the next time
    [ ! -d "$bundle/rootfs" ] || { echo "$bundle/rootfs is there"; return 0; }
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/.new-XXXXXX")
    echo "mmdebstrap makes $bundle/rootfs: half a minute"
    mmdebstrap --quiet --variant=essential --mode=root --format=directory \
        --dpkgopt=force-unsafe-io --dpkgopt=path-exclude='/usr/share/doc/*' --dpkgopt=path-exclude='/usr/share/man/*' \
        --dpkgopt=path-exclude='/usr/share/locale/*' "$suite" "$new/rootfs" \
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main"
    rm -rf "$new/rootfs/dev" && mkdir "$new/rootfs/dev"
    chmod 755 "$new" "$new/rootfs"
    mv "$new" "$bundle"
}

write_spec() { # COMMAND...: katapy's default spec with another command
    rm -f "$bundle/config.json"
    "$katapy" spec --bundle "$bundle"
    "$checkout/.venv/bin/python3" - "$bundle/config.json" "$@" <<'PYTHON'
import json, sys
path, *command = sys.argv[1:]
with open(path) as f:
    spec = json.load(f)
spec["process"] |= {"args": command, "terminal": False}
with open(path, "w") as f:
    json.dump(spec, f, indent=2)
PYTHON
}

run() {
    write_spec "$@"
    "$katapy" run --timings --bundle "$bundle" "$id"
}

phase "set-up of the host" sh "$checkout/setup/host.sh"
phase "guest image" "$checkout/.venv/bin/python3" "$checkout/guest-image/build.py"
phase "root file system of a Debian $suite" root_file_system
title "this host"
uname -a
phase "katapy run: uname -a, in a virtual machine of its own" run uname -a
phase "katapy run: cat /etc/os-release" run cat /etc/os-release
