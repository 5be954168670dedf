#!/bin/sh
# install.sh install|uninstall DESTDIR PREFIX: the command (it runs this checkout), its configuration, Podman's drop-in.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
checkout=$(dirname "$here")
command=$2$3/bin/katapy
settings=$2/etc/katapy/katapy.yaml
podman=$2/etc/containers/containers.conf.d/katapy.conf

put() { # SOURCE TARGET MODE
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv "$2.new" "$2"
    echo "installed $2"
}

case $1 in
install)
    # Byte code made now: the first call of each verb would write it otherwise.
    "$checkout/.venv/bin/python3" -m compileall -q "$checkout/katapy"
    put "$checkout/.venv/bin/katapy" "$command" 755
    [ -e "$settings" ] || put "$checkout/configs/katapy.yaml" "$settings" 644
    put "$checkout/configs/podman/katapy.conf" "$podman" 644
    ;;
uninstall)
    if [ -z "$2" ] && running=$("$command" list -q 2>/dev/null) && [ -n "$running" ]; then
        echo "uninstall: error: there are containers of katapy, which nothing else could end: $(echo $running)" >&2
        exit 1
    fi
    rm -f "$command" "$podman"
    cmp -s "$settings" "$checkout/configs/katapy.yaml" && rm -f "$settings"
    rmdir "${settings%/*}" 2>/dev/null || :
    echo "removed $command and $podman"
    ;;
*)
    echo "usage: install.sh install|uninstall DESTDIR PREFIX" >&2
    exit 1
    ;;
esac
