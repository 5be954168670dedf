#!/bin/sh
# lane.sh COMMAND...: runs it in namespaces of its own for mounts and the network, with an empty /run/netns and templates
# of its own, which are copies of the host's (framework/lanes.py). Needs root.
set -eu
KATAPY_LANE_SHARED=$(findmnt --noheadings --output PROPAGATION /)
export KATAPY_LANE_SHARED
# shellcheck disable=SC2016
exec unshare --mount --net sh -euc '
templates=/var/lib/katapy/templates
mkdir -p /run/netns
mkdir -p -m 700 $templates  # it stays on the host
mount -t tmpfs -o mode=755 netns /run/netns
(
    cd $templates  # and stays below what is mounted on it
    mount -t tmpfs -o mode=700 templates $templates
    for template in [!.]*/; do
        [ ! -d "$template" ] || cp -a --sparse=always "$template" $templates
    done
)
ip link set lo up
case $KATAPY_LANE_SHARED in shared) mount --make-rshared / ;; esac  # among its own, as systemd makes it on a host
mount --make-shared /run/netns  # as `ip netns` does
unset KATAPY_LANE_SHARED
exec "$@"' lane "$@"
