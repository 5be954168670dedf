"""The process object of an exec."""

from typing import Any

import pytest

from katapy.errors import SpecError, Unsupported
from katapy.sandbox.exec_process import exec_process, sub_cgroup

BASE: dict[str, Any] = {
    "args": ["init"],
    "cwd": "/home",
    "env": ["PATH=/bin", "A=1"],
    "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
    "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
    "apparmorProfile": "x",
    "consoleSize": {"width": 1, "height": 1},
}


def from_flags(**flags: Any) -> dict[str, Any]:
    return exec_process(BASE, {"flags": {"args": ["ls", "-l"], **flags}})


def test_flags_start_from_the_containers_process() -> None:
    process = from_flags()
    assert process["args"] == ["ls", "-l"]
    assert process["cwd"] == "/home"
    assert process["env"] == ["PATH=/bin", "A=1"]
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [7]}
    assert process["terminal"] is False
    assert "apparmorProfile" not in process
    assert "consoleSize" not in process


def test_flags_change_it() -> None:
    process = from_flags(
        cwd="/", env=["B=2"], user="1:2", additional_gids=[9], caps=["CAP_CHOWN"], tty=True, no_new_privs=True
    )
    assert process["cwd"] == "/"
    assert process["env"] == ["PATH=/bin", "A=1", "B=2"]
    assert process["user"] == {"uid": 1, "gid": 2, "additionalGids": [7, 9]}
    assert process["capabilities"]["effective"] == ["CAP_KILL", "CAP_CHOWN"]
    assert process["terminal"] is True
    assert process["noNewPrivileges"] is True


@pytest.mark.parametrize("inheritable, ambient", [(None, []), ([], ["CAP_CHOWN"]), (["CAP_KILL"], ["CAP_CHOWN"])])
def test_a_capability_is_ambient_if_the_spec_has_inheritable_ones(
    inheritable: list[str] | None, ambient: list[str]
) -> None:
    base = BASE | {"capabilities": BASE["capabilities"] | {"inheritable": inheritable}}
    assert exec_process(base, {"flags": {"args": ["x"], "caps": ["CAP_CHOWN"]}})["capabilities"]["ambient"] == ambient


def test_a_process_file_is_taken_as_it_stands() -> None:
    given = {"args": ["x"], "cwd": "/", "novelty": 1}
    assert exec_process(BASE, {"process": given}) == given


@pytest.mark.parametrize("request_", [{"flags": {"args": []}}, {"process": {"cwd": "/"}}])
def test_no_arguments_is_an_error_in_runcs_words(request_: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="process args cannot be empty"):
        exec_process(BASE, request_)


@pytest.mark.parametrize(
    "env,seen",
    [(["HOME=/x", "HOME="], []), (["HOME=", "HOME=/x"], ["HOME=", "HOME=/x"]), (["HOMEWARD="], ["HOMEWARD="])],
)
def test_an_empty_home_is_none(env: list[str], seen: list[str]) -> None:
    assert from_flags(env=env)["env"] == [*BASE["env"], *seen]


@pytest.mark.parametrize("path,below", [("", ""), ("/", ""), ("/a/b", "a/b"), ("a", "a"), ("..", "..")])
def test_a_sub_cgroup_is_below_the_containers(path: str, below: str) -> None:
    assert sub_cgroup(path) == below


def test_controllers_of_cgroup_v1_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"--cgroup cpu:\.\.\. is not supported"):
        sub_cgroup("cpu:a")


@pytest.mark.parametrize("entry", ["", "B", "=x"])
def test_an_environment_variable_has_a_name_and_a_value(entry: str) -> None:
    with pytest.raises(SpecError, match="invalid environment variable: "):
        from_flags(env=[entry])


def test_the_working_directory_is_absolute() -> None:
    with pytest.raises(SpecError, match="Cwd must be an absolute path"):
        from_flags(cwd="tmp")


@pytest.mark.parametrize("user", ["root", "1:x", "-1", "4294967296", "²"])
def test_users_are_numbers(user: str) -> None:
    with pytest.raises(SpecError):
        from_flags(user=user)
