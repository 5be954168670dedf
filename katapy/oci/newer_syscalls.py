"""System calls newer than a seccomp profile: they are answered with ENOSYS, as with runc. Pure; runs in the CLI.

A profile names what its author knew. What came later gets the default action, mostly EPERM: a program that tries a new
call, to go on with an old one where the kernel has none, takes that for a refusal. libseccomp, by which crun makes the
filter, has no rules for ranges of numbers, so the calls are named here.
"""

from collections.abc import Mapping
from typing import Any

_FIRST = 424
# fmt: off
_NAMES = (
    "pidfd_send_signal", "io_uring_setup", "io_uring_enter", "io_uring_register", "open_tree", "move_mount", "fsopen",
    "fsconfig", "fsmount", "fspick", "pidfd_open", "clone3", "close_range", "openat2", "pidfd_getfd", "faccessat2",
    "process_madvise", "epoll_pwait2", "mount_setattr", "quotactl_fd", "landlock_create_ruleset", "landlock_add_rule",
    "landlock_restrict_self", "memfd_secret", "process_mrelease", "futex_waitv", "set_mempolicy_home_node", "cachestat",
    "fchmodat2", "map_shadow_stack", "futex_wake", "futex_wait", "futex_requeue", "statmount", "listmount",
    "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules", "mseal", "setxattrat", "getxattrat", "listxattrat",
    "removexattrat", "open_tree_attr", "file_getattr", "file_setattr",
)
# fmt: on
NUMBERS = {name: _FIRST + i for i, name in enumerate(_NAMES)}
"""Since Linux 5.1 a new call has the same number on all architectures."""
_ENOSYS = 38
_REFUSING = frozenset(f"SCMP_ACT_{name}" for name in ("ERRNO", "KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "NOTIFY"))
"""Not TRACE: it is for the tracer to answer."""


def answer_newer(seccomp: Mapping[str, Any]) -> dict[str, Any]:
    """linux.seccomp with one rule more, if its default action is to refuse, and is not ENOSYS already."""
    rules = seccomp.get("syscalls") or []
    named = {name for rule in rules for name in rule.get("names") or ()}
    last = max((NUMBERS.get(name, 0) for name in named), default=0)
    newer = [name for name, number in NUMBERS.items() if number > last]
    told = seccomp.get("defaultErrnoRet") == _ENOSYS or seccomp.get("defaultAction") not in _REFUSING
    if told or not named or not newer:
        return dict(seccomp)
    return {**seccomp, "syscalls": [*rules, {"names": newer, "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS}]}
