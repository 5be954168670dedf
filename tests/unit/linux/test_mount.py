"""What mount(2) and umount2(2) say when they say no; real mounts are exercised by the tests that boot a guest."""

import errno

import pytest

from katapy.linux import mount


def test_mount_failure_names_errno_and_target() -> None:
    with pytest.raises(OSError, match="/no/such/target") as raised:
        mount.mount("none", "/no/such/target", "tmpfs")
    assert raised.value.errno in (errno.ENOENT, errno.EPERM)
    assert raised.value.filename == "/no/such/target"


def test_umount_of_what_is_not_mounted() -> None:
    with pytest.raises(OSError, match="/no/such/target") as raised:
        mount.umount("/no/such/target", mount.MNT_DETACH)
    assert raised.value.errno in (errno.ENOENT, errno.EPERM)
