"""The process object of an exec: from a file, or from the container's own process and flags.

Pure; runs in the supervisor.
"""

from collections.abc import Mapping
from typing import Any

from katapy.errors import SpecError, Unsupported
from katapy.sandbox.guest_spec import process_for_guest

Json = dict[str, Any]

_CAPABILITY_SETS = ("bounding", "effective", "permitted")


def exec_process(base: Mapping[str, Any], request: Mapping[str, Any]) -> Json:
    """`request["process"]` as it stands, or `base` (the container's process) changed by `request["flags"]`.

    flags: args, cwd, env (list), user ("uid[:gid]"), additional_gids, caps, tty, no_new_privs, apparmor, process_label;
    each as runc's flag of that name. Raises SpecError.
    """
    if request.get("process") is not None:
        process = dict(request["process"])
    else:
        process = _from_flags(base, request.get("flags") or {})
    if not process.get("args"):
        raise SpecError("process args cannot be empty")
    return process_for_guest(process)


def sub_cgroup(path: str) -> str:
    """runc's --cgroup, which is below the container's cgroup with or without a slash in front; "" for that cgroup
    itself. The agent checks that it stays below. Raises Unsupported."""
    controller, separator, _ = path.partition(":")
    if separator:
        raise Unsupported(
            f"--cgroup {controller[:40]}:... is not supported: a guest has cgroup v2, with one path for all"
        )
    return path.strip("/")


def _from_flags(base: Mapping[str, Any], flags: Mapping[str, Any]) -> Json:
    process = {k: v for k, v in base.items() if k != "consoleSize"}
    process["args"] = flags.get("args") or []
    process["terminal"] = bool(flags.get("tty"))
    if flags.get("cwd"):
        if not flags["cwd"].startswith("/"):
            raise SpecError("Cwd must be an absolute path")
        process["cwd"] = flags["cwd"]
    process["env"] = [*(base.get("env") or []), *map(_assignment, flags.get("env") or [])]
    process["user"] = _user(base.get("user") or {"uid": 0, "gid": 0}, flags)
    if flags.get("no_new_privs"):
        process["noNewPrivileges"] = True
    if flags.get("caps"):
        process["capabilities"] = _with_capabilities(base.get("capabilities") or {}, flags["caps"])
    return process


def _assignment(entry: str) -> str:
    if entry.find("=") < 1:
        raise SpecError(f"invalid environment variable: {entry[:80]!r}: expected name=value")
    return entry


def _user(base: Mapping[str, Any], flags: Mapping[str, Any]) -> Json:
    user = dict(base)
    if flags.get("user"):
        uid, separator, gid = str(flags["user"]).partition(":")
        user["uid"] = _id(uid, "uid")
        if separator:
            user["gid"] = _id(gid, "gid")
    if flags.get("additional_gids"):
        user["additionalGids"] = [*(user.get("additionalGids") or []), *flags["additional_gids"]]
    return user


def _id(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**32 - 1):
        raise SpecError(f"parsing {text[:40]!r} as a {what} for --user: not a number")
    return int(text)


def _with_capabilities(base: Mapping[str, list[str]], extra: list[str]) -> dict[str, list[str]]:
    """As runc: also to the ambient ones, if the spec has inheritable ones (without which the kernel would not)."""
    sets = {name: list(base.get(name) or []) for name in (*_CAPABILITY_SETS, "inheritable", "ambient")}
    for name in (*_CAPABILITY_SETS, *(("ambient",) if base.get("inheritable") is not None else ())):
        sets[name] = list(dict.fromkeys([*sets[name], *extra]))
    return sets
