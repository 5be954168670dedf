"""What `create` tells of before it begins."""

from katapy.cli.creation import left_outside


def test_what_systemd_hands_to_its_services_does_not_get_in() -> None:
    assert left_outside({"LISTEN_FDS": "2", "NOTIFY_SOCKET": "/run/systemd/notify", "PATH": "/bin"}) == [
        "LISTEN_FDS is ignored: descriptors of the host can't enter a guest",
        "NOTIFY_SOCKET is ignored: a socket of the host can't enter a guest",
    ]
    assert left_outside({"LISTEN_FDS": "", "PATH": "/bin"}) == []
