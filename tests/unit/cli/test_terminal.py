"""A console socket is looked at before anything is made, and not connected to: an engine listens for one connection."""

import socket
from pathlib import Path

import pytest

from katapy.cli.terminal import check_console_socket
from katapy.errors import HostError


def test_a_socket_passes_and_nobody_has_connected(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "console"))
        listener.listen(1)
        (tmp_path / "link").symlink_to("console")
        for name in ("console", "link"):
            check_console_socket(str(tmp_path / name), True, True)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_what_can_be_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="nosuch: no such file or directory"):
        check_console_socket(str(tmp_path / "nosuch"), True, True)
    with pytest.raises(HostError, match="connection refused"):
        check_console_socket(str(tmp_path), True, True)
