#!/bin/sh
# lane.sh COMMAND...: runs it in namespaces of its own for mounts and the network (framework/lanes.py). Needs root.
set -eu
export KATAPY_LANE_SHARED="$(findmnt --noheadings --output PROPAGATION /)"
# shellcheck disable=SC2016
exec unshare --mount --net sh -euc '
case $KATAPY_LANE_SHARED in shared) mount --make-rshared /; esac  # among its own, as a host of systemd has it
mkdir -p /run/netns
mount -t tmpfs -o mode=755 netns /run/netns
mount --make-shared /run/netns  # as `ip netns` does
ip link set lo up
unset KATAPY_LANE_SHARED
exec "$@"' lane "$@"
