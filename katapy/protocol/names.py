"""Names on which host and guest must agree: ports, devices, tags, guest paths. Standard library only."""

PROTOCOL_VERSION = 1
"""Raised when an agent of the older version could misread a request. Host and agent must be equal."""

AGENT_PORT = "katapy.agent"
"""virtio-serial port that carries the gRPC channel (transport `serial`)."""

BOOT_PORT = "katapy.boot"
"""virtio-serial port: the host writes one JSON line (boot message), the guest writes JSON lines (phases, log)."""

TEMPLATE_PHASE = "template"
"""The phase in which a machine that was asked to be a template can be saved."""
SERVING_PHASE = "serving"

AGENT_VSOCK_PORT = 961
"""Below 1024: binding it in the guest takes CAP_NET_BIND_SERVICE."""

PRIVILEGED_PORTS = 1024
"""vsock ports below it take CAP_NET_BIND_SERVICE. The host connects from one, and the agent listens to no other."""

SHARE_TAG = "katapy.shared"
"""Mount tag of the pod's shared directory, virtio-fs and 9p alike."""

SECRET_METADATA = "katapy-secret"
"""gRPC metadata key; every call carries the secret of the boot message, or is refused (UNAUTHENTICATED)."""

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of one gRPC message, both ways."""

STDIO_CHUNK = 64 * 1024
"""Bytes of stdio in one message, at most."""

GUEST_RUN = "/run/katapy"
GUEST_SHARED = "/run/katapy/shared"
"""Where the guest mounts the share; `<container id>/rootfs` and `@<n>/mounts/0` (volumes) lie below."""
GUEST_AGENT_SOCKET = "/run/katapy/agent.sock"
GUEST_CONTAINERS = "/run/katapy/containers"
"""Bundles that the agent writes for crun: `<container id>/config.json`."""
GUEST_WRITES = "/run/katapy/writes"
"""Below `<container id>`: the tmpfs of a container whose changes stay in the guest."""
GUEST_BOOT_ID = "/run/katapy/boot_id"
"""This machine's own boot id: bound over the kernel's, which is the same in all clones of a template."""
GUEST_MACHINE_ID = "/run/katapy/machine-id"
GUEST_NAMESPACES = "/run/katapy/ns"
"""`<container id>/<kind>`: handles of a container's namespaces, for containers that join them."""
JOINABLE = ("ipc", "uts", "network", "pid")
"""Kinds of namespaces that containers of a pod can share."""
GUEST_TMPFS = "/run/katapy/tmpfs"
"""`<name>`: volumes in the guest's memory (CreateContainerRequest.tmpfs)."""
GUEST_CGROUP_ROOT = "/katapy"
"""Parent cgroup (v2, in the guest) of all containers; a container's cgroupsPath is `/katapy/<id>`."""

GUEST_NETNS = "/run/katapy/netns"
"""The pod's network namespace in the guest: every container's, never the agent's."""
GUEST_SYSFS = "/run/katapy/sysfs"
"""Its sysfs, for user namespaces: they may mount none of a network namespace that is not theirs."""

INIT_EXEC_ID = ""
"""The exec id that means a container's init process."""


def guest_writable_root(container_id: str) -> str:
    """Where the guest mounts a root file system whose changes stay in the guest."""
    return f"{GUEST_WRITES}/{container_id}/root"
