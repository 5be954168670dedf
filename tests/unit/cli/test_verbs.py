"""Verbs on living and on stopped containers, against a real control server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from katapy.control.messages import Fields
from katapy.errors import WrongStatus
from katapy.sandbox import hooks, store

Katapy = Callable[..., Any]
Make = Callable[..., store.State]
Supervise = Callable[..., Any]


def refuse(message: str) -> Callable[[dict[str, object]], dict[str, object]]:
    def answer(_: dict[str, object]) -> dict[str, object]:
        raise WrongStatus(message)

    return answer


# -- state, list --------------------------------------------------------------------------------------


def test_state(katapy: Katapy, make: Make) -> None:
    make(annotations={"a": "b"})
    result = katapy("state", "c1")
    assert (result.status, result.err) == (0, "")
    assert result.out == json.dumps(
        {
            "ociVersion": "1.0.2",
            "id": "c1",
            "pid": 4242,
            "status": "running",
            "bundle": "/bundle",
            "rootfs": "/bundle/rootfs",
            "created": "2026-01-02T03:04:05.000000006Z",
            "annotations": {"a": "b"},
            "owner": "",
        },
        indent=2,
    )


def test_state_of_a_dead_supervisor_is_stopped(katapy: Katapy, make: Make) -> None:
    make(supervisor_pid=0)
    shown = json.loads(katapy("state", "c1").out)
    assert (shown["status"], shown["pid"]) == ("stopped", 0)
    assert "annotations" not in shown


def test_list(katapy: Katapy, make: Make) -> None:
    assert katapy("list", "-f", "json").out == "null\n"
    make()
    make("a-much-longer-name", status="stopped", pid=0, owner_uid=4242424)
    assert katapy("list", "-q").out == "a-much-longer-name\nc1\n"
    assert katapy("list").out == (
        "ID                   PID         STATUS      BUNDLE      CREATED                          OWNER\n"
        "a-much-longer-name   0           stopped     /bundle     2026-01-02T03:04:05.000000006Z   #4242424\n"
        "c1                   4242        running     /bundle     2026-01-02T03:04:05.000000006Z   root\n"
    )
    out = katapy("list", "--format", "json").out
    assert out.count("\n") == 1
    assert [(c["id"], c["status"], c["owner"]) for c in json.loads(out)] == [
        ("a-much-longer-name", "stopped", "#4242424"),
        ("c1", "running", "root"),
    ]


def test_list_warns_of_damage_and_shows_the_rest(katapy: Katapy, make: Make, root: str) -> None:
    make()
    make("c2")
    Path(root, "c1", "state.json").write_text("{")
    result = katapy("list", "-f", "json")
    assert [c["id"] for c in json.loads(result.out)] == ["c2"]
    assert "level=warning" in result.err


# -- start --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status, message",
    [
        ("running", "cannot start an already running container"),
        ("stopped", "cannot start a container that has stopped"),
        ("paused", "cannot start a container in the paused state"),
    ],
)
def test_start_refuses(katapy: Katapy, make: Make, status: str, message: str) -> None:
    make(status=status)
    result = katapy("start", "c1")
    assert (result.status, result.out) == (1, "")
    assert f'msg="{message}"' in result.err


@pytest.mark.parametrize("status", ["created", "creating"])
def test_start(katapy: Katapy, make: Make, supervise: Supervise, status: str) -> None:
    """While `create` is on its way, the supervisor lets `start` wait for it."""
    make(status=status)
    supervisor = supervise(start=lambda fields: {})
    result = katapy("start", "c1")
    assert (result.status, result.out, result.err) == (0, "", "")
    assert supervisor.asked == [("start", {"id": "c1"})]


def test_start_runs_poststart_hooks(
    katapy: Katapy, make: Make, supervise: Supervise, root: str, tmp_path: Path
) -> None:
    make(status="created", bundle=str(tmp_path))
    supervise(start=lambda fields: {})
    good = {"path": "/bin/sh", "args": ["sh", "-c", "cat > seen"]}
    hooks.keep(f"{root}/c1", {"poststart": [good, {"path": "/bin/false"}]})
    result = katapy("start", "c1")
    assert result.status == 0
    assert "level=warning" in result.err
    assert json.loads((tmp_path / "seen").read_text())["status"] == "running"


def test_poststart_hooks_see_the_pid_of_a_create_that_start_waited_for(
    katapy: Katapy, make: Make, supervise: Supervise, root: str, tmp_path: Path
) -> None:
    state = make(status="creating", pid=0, bundle=str(tmp_path))

    def created(_: Fields) -> Fields:
        store.save(root, state._replace(status="running", pid=4711))
        return {}

    supervise(start=created)
    hooks.keep(f"{root}/c1", {"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > seen"]}]})
    assert katapy("start", "c1").status == 0
    assert json.loads((tmp_path / "seen").read_text())["pid"] == 4711


def test_start_of_a_dead_one(katapy: Katapy, make: Make) -> None:
    make(status="created")  # says that we are its supervisor, but nobody listens
    assert "cannot start a container that has stopped" in katapy("start", "c1").err


# -- kill, pause, resume ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv, signal, everyone",
    [
        ("c1", 15, False),
        ("c1 KILL", 9, False),
        ("c1 SIGKILL", 9, False),
        ("c1 kill", 9, False),
        ("c1 9", 9, False),
        ("c1 0", 0, False),
        ("-a c1 RTMIN+1", 35, True),
        ("--all c1 TERM", 15, True),
    ],
)
def test_kill(katapy: Katapy, make: Make, supervise: Supervise, argv: str, signal: int, everyone: bool) -> None:
    make()
    supervisor = supervise(kill=lambda fields: {})
    assert katapy("kill", *argv.split()).status == 0
    assert supervisor.asked == [("kill", {"id": "c1", "signal": signal, "all": everyone})]


def test_kill_refuses(katapy: Katapy, make: Make, supervise: Supervise) -> None:
    make()
    make("c2", status="stopped")
    supervise(kill=refuse("container not running"))
    assert 'msg="unknown signal \\"FOO\\""' in katapy("kill", "c1", "FOO").err
    for id in ("c1", "c2"):
        result = katapy("kill", id)
        assert result.status == 1
        assert 'msg="container not running"' in result.err


@pytest.mark.parametrize(
    "verb, status, message",
    [
        ("pause", "paused", "container not running"),
        ("pause", "stopped", "container not running"),
        ("resume", "running", "container not paused"),
        ("resume", "stopped", "container not paused"),
    ],
)
def test_pause_and_resume_refuse(katapy: Katapy, make: Make, verb: str, status: str, message: str) -> None:
    make(status=status)
    result = katapy(verb, "c1")
    assert result.status == 1
    assert f'msg="{message}"' in result.err


def test_pause_and_resume(katapy: Katapy, make: Make, supervise: Supervise) -> None:
    make()
    make("c2", sandbox="c1", status="paused")
    supervisor = supervise(pause=lambda fields: {}, resume=lambda fields: {})
    assert katapy("pause", "c1").status == katapy("resume", "c2").status == 0
    assert supervisor.asked == [("pause", {"id": "c1"}), ("resume", {"id": "c2"})]


# -- ps, events ---------------------------------------------------------------------------------------

PROCESS = {
    "pid": 7,
    "ppid": 1,
    "uid": 0,
    "user": "root",
    "start": 0,
    "cpu_seconds": 3661.5,
    "tty": "?",
    "command": "sh -c 'evil\x1b[2J'",
}


def test_ps(katapy: Katapy, make: Make, supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    make()
    supervise(
        ps=lambda fields: {"processes": [PROCESS, {**PROCESS, "pid": 12345, "start": 1e300}], "pids": [4242, 4343]}
    )
    assert katapy("ps", "--format", "json", "c1").out == "[4242,4343]\n"
    assert katapy("ps", "c1", "-ef").out == (
        "UID          PID    PPID  C STIME TTY          TIME CMD\n"
        "root           7       1  0 Jan01 ?        01:01:01 sh -c 'evil?[2J'\n"
        "root       12345       1  0 Jan01 ?        01:01:01 sh -c 'evil?[2J'\n"
    )


def test_ps_of_a_stopped_one(katapy: Katapy, make: Make) -> None:
    make(status="stopped")
    assert katapy("ps", "c1").out == "UID          PID    PPID  C STIME TTY          TIME CMD\n"
    assert katapy("ps", "-f", "json", "c1").out == "[]\n"
    assert katapy("ps", "c1", "-o", "pid").out == "    PID\n"
    assert "ps options '--forest' are not supported" in katapy("ps", "c1", "--forest").err
    assert "invalid format option" in katapy("ps", "-f", "yaml", "c1").err


def test_events(katapy: Katapy, make: Make, supervise: Supervise) -> None:
    make()
    events = [{"type": "stats", "id": "c1", "data": {"cpu": {}}}, {"type": "oom", "id": "c1"}]
    supervisor = supervise(stats=lambda fields: {"stats": {"cpu": 1}}, events=lambda fields: {"events": events})
    assert katapy("events", "--stats", "c1").out == '{"type":"stats","id":"c1","data":{"cpu":1}}\n'
    result = katapy("events", "--interval", "100ms", "c1")
    assert [json.loads(line) for line in result.out.splitlines()] == events
    assert supervisor.asked[-1] == ("events", {"id": "c1", "interval_s": 1})


def test_events_refuses(katapy: Katapy, make: Make) -> None:
    make()
    make("c2", status="stopped")
    for argv in (("c1",), ("--stats", "c1"), ("c2",), ("--stats", "c2")):
        result = katapy("events", *argv)
        assert result.status == 1
        assert f'msg="container with id {argv[-1]} is not running"' in result.err
    assert "duration interval must be greater than 0" in katapy("events", "--interval", "0", "c1").err
    assert "for flag -interval: parse error" in katapy("events", "--interval", "soon", "c1").err


# -- update -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv, resources",
    [
        ("--memory 64m --memory-swap -1", {"memory": {"limit": 67108864, "swap": -1}}),
        ("--memory 1.5g", {"memory": {"limit": 1610612736}}),
        ("--cpu-quota -1 --cpu-period 1000", {"cpu": {"quota": -1, "period": 1000}}),
        ("--cpu-share 512 --cpuset-cpus 0-1", {"cpu": {"shares": 512, "cpus": "0-1"}}),
        ("--pids-limit -1 --blkio-weight 100", {"blockIO": {"weight": 100}, "pids": {"limit": -1}}),
        ("--pids-limit 0 --cpu-period 0", {}),
        ("--cpu-idle 1 --cpu-burst 5", {"cpu": {"idle": 1, "burst": 5}}),
        ("--kernel-memory 5m", {}),
    ],
)
def test_update_by_flags(
    katapy: Katapy, make: Make, supervise: Supervise, argv: str, resources: dict[str, object]
) -> None:
    make()
    supervisor = supervise(update=lambda fields: {})
    assert katapy("update", *argv.split(), "c1").err == ""
    assert supervisor.asked == [("update", {"id": "c1", "resources": resources})]


def test_update_by_file(katapy: Katapy, make: Make, supervise: Supervise, tmp_path: Path) -> None:
    make()
    supervisor = supervise(update=lambda fields: {})
    file = tmp_path / "r.json"
    file.write_text('{"memory": {"limit": 5}, "unified": {"memory.high": "6"}}')
    assert katapy("update", "--memory", "7", "-r", str(file), "c1").status == 0
    assert supervisor.asked[0][1]["resources"] == {"memory": {"limit": 5}, "unified": {"memory.high": "6"}}
    file.write_text('{"memory": {"limit": "5"}}')
    assert "$.memory.limit" in katapy("update", "-r", str(file), "c1").err
    assert "no such file or directory" in katapy("update", "-r", "/nosuch", "c1").err


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--memory 5x", "invalid value for memory: invalid size: '5x'"),
        ("--cpu-quota many", 'invalid value for cpu-quota: \\"many\\" is not a number'),
        ("--cpu-period -1", "Expected `int` >= 0 - at `$.cpu.period`"),
        ("--l3-cache-schema x", "--l3-cache-schema is not supported: the guest has no Intel RDT"),
    ],
)
def test_update_refuses(katapy: Katapy, make: Make, argv: str, message: str) -> None:
    make()
    result = katapy("update", *argv.split(), "c1")
    assert result.status == 1
    assert message in result.err


def test_update_of_a_stopped_one(katapy: Katapy, make: Make) -> None:
    make(status="stopped")
    assert "container not running" in katapy("update", "--memory", "5m", "c1").err


# -- spec, features -----------------------------------------------------------------------------------


def test_spec(katapy: Katapy, tmp_path: Path) -> None:
    from katapy.oci.spec import load_bundle
    from katapy.oci.validate import validate_bundle

    (tmp_path / "rootfs").mkdir()
    assert katapy("spec", "--bundle", str(tmp_path)).status == 0
    validate_bundle(load_bundle(str(tmp_path)))
    assert "File config.json exists. Remove it first" in katapy("spec", "-b", str(tmp_path)).err
    assert "chdir /nosuch: no such file or directory" in katapy("spec", "-b", "/nosuch").err


def test_features(katapy: Katapy) -> None:
    result = katapy("features")
    assert (result.status, result.err) == (0, "")
    document = json.loads(result.out)
    assert document["ociVersionMin"] == "1.0.0"
    assert len(document["hooks"]) == 6
    assert len(set(document["mountOptions"])) == len(document["mountOptions"])
    assert "rshared" not in document["mountOptions"]
    assert document["linux"]["capabilities"][0] == "CAP_CHOWN"
