"""config.json of the host -> config.json for crun in the guest. Pure; runs in the CLI while it plans.

What changes, and why:
- root.path and sources of bind mounts become paths below the pod's share (names.GUEST_SHARED); those of binds are put
  in by the supervisor, which knows what is shared already (`place_binds`);
- a bind on /dev/shm of a host tmpfs, or of an emptyDir in memory, becomes one of a tmpfs of that size in the guest,
  which the pod's containers share: memory can't be shared with the host;
- a bind mount has the flags of the host's mount as options, where the kernel would have kept them;
- mapped ids of a bind mount go: the host has mapped them;
- an overlay is a bind: its directories are the host's, which mounts it (katapy/storage/overlay.py);
- a namespace of another container of the pod becomes the agent's handle of it; other paths go: a host's namespace means
  nothing in the guest, what they stand for is arranged by the sandbox;
- the network namespace is the pod's in the guest, which the agent has made and which gets the pod's interfaces;
- with a user namespace, sysfs is a bind of the pod's: root could mount one only of a network of its own;
- hooks but startContainer go: the host runs them (katapy/sandbox/hooks.py);
- security labels go: the guest's kernel has no LSM policy of the host's, the VM is the stronger wall
  (docs/limitations.md);
- cgroupsPath becomes the guest's own, and a cgroup namespace is added if there is none: engines leave it out on hosts
  with cgroup v1, where /sys/fs/cgroup shows a container its own limits all the same.
- seccomp answers system calls that are newer than the profile with ENOSYS, as runc's does (katapy/oci/newer_syscalls);
- the boot id is the machine's own: the kernel's is the same in all machines cloned from one template.
Everything else is passed on as it stands, fields unknown to katapy too.
"""

import json
from collections.abc import Mapping
from typing import Any

from katapy.errors import Unsupported
from katapy.oci.newer_syscalls import answer_newer
from katapy.protocol import names
from katapy.sandbox import id_maps, overlays

Json = dict[str, Any]

_KEPT_HOOKS = ("startContainer",)
_FOREIGN_NAMESPACES = {"pid", "mount", "user", "time", "cgroup"}
"""Joining one of another container's: impossible across virtual machines."""
_CGROUP = {"type": "cgroup"}
_NO_FLAGS = frozenset({"bind", "rbind", *id_maps.OPTIONS}).union(
    prefix + kind for prefix in ("", "r") for kind in ("private", "shared", "slave", "unbindable")
)
"""Options of a bind that say nothing about the flags of its mount."""
_CLEARED_BY = {"ro": "rw", "nosuid": "suid", "nodev": "dev", "noexec": "exec"}
_BOOT_ID = {
    "destination": "/proc/sys/kernel/random/boot_id",
    "type": "bind",
    "source": names.GUEST_BOOT_ID,
    "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
}


def guest_container_dir(container_id: str) -> str:
    return f"{names.GUEST_SHARED}/{container_id}"


def guest_spec(
    spec: Json,
    container_id: str,
    binds: Mapping[int, str],
    joined: Mapping[str, str] | None,
    inherited: Mapping[int, tuple[str, ...]],
) -> Json:
    """The document for crun. `binds`: index in spec.mounts -> guest path; `joined`: kind of namespace -> container of
    the pod whose it is, None for a machine's first container; `inherited`: index -> flags of the mount on the host.

    Raises Unsupported for what can't be done in a guest.
    """
    guest = dict(spec)
    guest["root"] = {**spec["root"], "path": f"{guest_container_dir(container_id)}/rootfs"}
    userns = any(n["type"] == "user" for n in (spec.get("linux") or {}).get("namespaces") or [])
    mounts = [
        _mount(_inheriting(m, inherited.get(i, ()), userns), binds.get(i), userns)
        for i, m in enumerate(spec.get("mounts") or [])
    ]
    has_proc = any(m.get("type") == "proc" and m.get("destination") == "/proc" for m in mounts)
    guest["mounts"] = [*mounts, _BOOT_ID] if has_proc else mounts
    if spec.get("process"):
        guest["process"] = process_for_guest(spec["process"])
    hooks = {k: v for k, v in (spec.get("hooks") or {}).items() if k in _KEPT_HOOKS and v}
    guest.pop("hooks", None)
    if hooks:
        guest["hooks"] = hooks
    guest["linux"] = _linux(spec.get("linux") or {}, container_id, joined)
    return guest


def place_binds(spec_json: bytes, paths: Mapping[int, str]) -> bytes:
    """The document with the guest's paths of its binds, by their index in `mounts`: known when they are shared."""
    if not paths:
        return spec_json
    document: Json = json.loads(spec_json)
    for index, path in paths.items():
        document["mounts"][index]["source"] = path
    return json.dumps(document, separators=(",", ":")).encode()


def process_for_guest(process: Json) -> Json:
    """A process object without the labels of the host's security modules, and without HOME if that is empty: runc finds
    the user's then, crun only where there is none."""
    guest = {k: v for k, v in process.items() if k not in ("apparmorProfile", "selinuxLabel")}
    homes = [entry for entry in process.get("env") or [] if entry.startswith("HOME=")]
    if homes and homes[-1] == "HOME=":
        guest["env"] = [entry for entry in process["env"] if entry not in homes]
    return guest


def _inheriting(mount: Json, inherited: tuple[str, ...], userns: bool) -> Json:
    """A bind keeps the flags of the mount that its source is on, if its options name none; in a user namespace those
    that its options do not clear: there the kernel locks them. The guest's kernel knows nothing of that mount."""
    options = mount.get("options") or []
    if not inherited or not (userns or _NO_FLAGS.issuperset(options)):
        return mount
    kept = [flag for flag in inherited if not {flag, _CLEARED_BY[flag]}.intersection(options)]
    return {**mount, "options": [*options, *kept]}


def _mount(mount: Json, bind: str | None, userns: bool) -> Json:
    if userns and bind is None and mount.get("type") == "sysfs":
        return {
            **mount,
            "type": "bind",
            "source": names.GUEST_SYSFS,
            "options": ["bind", *(mount.get("options") or [])],
        }
    if bind is not None:
        options = [option for option in mount.get("options") or [] if option not in id_maps.OPTIONS]
        mount = {k: v for k, v in mount.items() if k not in ("uidMappings", "gidMappings")}
        if overlays.is_overlay(mount):
            mount["type"], options = "bind", overlays.flags(options)
        named = not {"bind", "rbind"}.isdisjoint(options)  # by its type alone, crun takes it for a file system
        return {**mount, "source": bind, "options": options if named else ["bind", *options]}
    return mount


def _linux(linux: Json, container_id: str, joined: Mapping[str, str] | None) -> Json:
    guest = {k: v for k, v in linux.items() if k not in ("mountLabel", "intelRdt")}
    if linux.get("intelRdt"):
        raise Unsupported("linux.intelRdt is not supported: a guest has no resctrl")
    if linux.get("seccomp"):
        guest["seccomp"] = answer_newer(_without_listener(linux["seccomp"]))
    guest["cgroupsPath"] = f"{names.GUEST_CGROUP_ROOT}/{container_id}"
    namespaces = [_namespace(n, joined) for n in linux.get("namespaces") or []]
    guest["namespaces"] = namespaces if _CGROUP in namespaces else [*namespaces, _CGROUP]
    return guest


def _without_listener(seccomp: Json) -> Json:
    """Who listens has nothing to do where no action notifies; runc ignores it too."""
    actions = {seccomp.get("defaultAction"), *(call.get("action") for call in seccomp.get("syscalls") or [])}
    if "SCMP_ACT_NOTIFY" in actions:
        raise Unsupported("the seccomp action SCMP_ACT_NOTIFY is not supported: its descriptor can't leave the guest")
    return {k: v for k, v in seccomp.items() if k not in ("listenerPath", "listenerMetadata")}


def _namespace(namespace: Json, joined: Mapping[str, str] | None) -> Json:
    kind, path = namespace["type"], namespace.get("path")
    if path and joined and kind in joined:
        return {"type": kind, "path": f"{names.GUEST_NAMESPACES}/{joined[kind]}/{kind}"}
    if path and kind in _FOREIGN_NAMESPACES:
        raise Unsupported(f"joining the {kind} namespace {path} is not supported: it is outside the virtual machine")
    return {"type": kind, "path": names.GUEST_NETNS} if kind == "network" and joined is None else {"type": kind}
