"""Command lines and identification of the two daemons."""

import pytest

from katapy.errors import HostError
from katapy.storage.probe import find_virtiofsd, identify
from katapy.storage.virtiofsd import Flavour, Virtiofsd, build_argv

C_TEXT = (
    "virtiofsd version 7.2.22 (Debian 1:7.2)\nCopyright (c) 2003-2022 Fabrice Bellard and the QEMU Project developers\n"
)


def test_the_c_daemon() -> None:
    daemon = identify("/usr/lib/qemu/virtiofsd", C_TEXT)
    assert daemon == Virtiofsd("/usr/lib/qemu/virtiofsd", Flavour.C, (7, 2, 22))
    argv = build_argv(daemon, "/run/a,b/shared")
    assert argv[:3] == ["/usr/lib/qemu/virtiofsd", "--fd=3", "-f"]
    assert argv[-1].startswith("source=/run/a\\,b/shared,sandbox=namespace,")
    assert not any("syslog" in word for word in argv), "its seccomp filter kills it where /dev/log is missing"
    assert "writeback" not in argv[-1]


def test_the_rust_daemon() -> None:
    daemon = identify("/usr/libexec/virtiofsd", "virtiofsd 1.13.2\n")
    assert daemon == Virtiofsd("/usr/libexec/virtiofsd", Flavour.RUST, (1, 13, 2))
    argv = build_argv(daemon, "/run/a,b/shared")
    assert "--shared-dir=/run/a,b/shared" in argv
    assert "--cache=never" in argv
    assert not any("writeback" in word or "syslog" in word for word in argv)


def test_something_else_is_refused() -> None:
    with pytest.raises(HostError, match="is it virtiofsd"):
        identify("/bin/true", "true (GNU coreutils) 9.1")
    with pytest.raises(HostError, match=r"can't find /nosuch/virtiofsd: install virtiofsd, or set share\.virtiofsd"):
        find_virtiofsd("/nosuch/virtiofsd")
