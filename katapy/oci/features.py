"""The features document of the runtime-spec: what katapy serves, whatever this host has. Pure.

Truthful for a container in a guest: what crun does there with the image's kernel. Shared propagation is missing because
mounts made in a guest stay in it; AppArmor, SELinux and Intel RDT are the host kernel's.
"""

from katapy.oci import SPEC_VERSION
from katapy.oci.capabilities import CAPABILITIES

OCI_VERSION_MIN = "1.0.0"
NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
# fmt: off
_TOGGLES = ("atime", "dev", "diratime", "exec", "iversion", "lazytime", "mand", "relatime", "strictatime", "suid")
_MOUNT_OPTIONS = (
    "async", "bind", "defaults", "dirsync", "loud", "nosymfollow", "private", "rbind", "remount", "ro", "rprivate",
    "rro", "rslave", "runbindable", "rw", "silent", "slave", "symfollow", "sync", "tmpcopyup", "unbindable",
    *_TOGGLES, *("no" + name for name in _TOGGLES),
)
_ACTIONS = ("ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "TRACE", "TRAP")
_OPERATORS = ("EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE")
_ARCHS = ("X32", "X86", "X86_64")
_SECCOMP_FLAGS = ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC")
# fmt: on


def features(version: str) -> dict[str, object]:
    """`version`: katapy's."""
    return {
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(_MOUNT_OPTIONS),
        "linux": {
            "namespaces": list(NAMESPACES),
            "capabilities": list(CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": [f"SCMP_ACT_{name}" for name in _ACTIONS],
                "operators": [f"SCMP_CMP_{name}" for name in _OPERATORS],
                "archs": [f"SCMP_ARCH_{name}" for name in _ARCHS],
                "knownFlags": list(_SECCOMP_FLAGS),
                "supportedFlags": list(_SECCOMP_FLAGS),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "annotations": {"io.katapy.version": version},
        "potentiallyUnsafeConfigAnnotations": ["io.katapy."],
    }
