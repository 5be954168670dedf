"""A machine with nothing but the agent in it: QEMU, the built image, a 9p share with a busybox, and a gRPC stub.

For the tests of this folder: what the supervisor adds is not here on purpose.
"""

import json
import os
import queue
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from katapy.protocol import agent_pb2 as pb
from katapy.protocol import agent_pb2_grpc, names

IMAGE = Path(os.environ.get("KATAPY_IMAGE", "/var/lib/katapy/images/current"))
BOOT_DEADLINE_S = 120
CALL_DEADLINE_S = 60
BUSYBOX = "/bin/busybox"


class Guest:
    """Boots in the constructor; `close` ends it. `phases` and `log` are what came over the boot port."""

    def __init__(
        self, folder: Path, memory_mib: int = 512, cpus: int = 1, boot_message: dict[str, Any] | None = None
    ) -> None:
        self.folder = folder
        self.secret = secrets.token_hex(16)
        self.phases: list[tuple[str, float]] = []
        self.log: list[str] = []
        self.share = folder / "share"
        self._make_rootfs()
        self.started = time.monotonic()
        self.qemu = subprocess.Popen(self._argv(memory_mib, cpus), stdin=subprocess.DEVNULL)
        self._talk_to_boot_port(boot_message)
        self.channel, self.stub = self.connect()

    def _argv(self, memory_mib: int, cpus: int) -> list[str]:
        image = json.loads((IMAGE / "image.json").read_text())
        parameters = " ".join(["console=hvc0", *image["kernel_parameters"]])
        return [
            "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
            "-smp", str(cpus), "-m", str(memory_mib), "-nodefaults", "-no-reboot", "-display", "none",
            "-kernel", str(IMAGE / "vmlinux"), "-initrd", str(IMAGE / "initrd"), "-append", parameters,
            "-drive", f"if=none,id=root,format=raw,readonly=on,file={IMAGE / 'rootfs.erofs'}",
            "-device", "virtio-blk-pci,drive=root", "-device", "virtio-serial-pci", "-device", "virtio-rng-pci",
            "-chardev", f"file,id=console,path={self.folder / 'console.log'}", "-device", "virtconsole,chardev=console",
            "-chardev", f"socket,id=boot,path={self.folder / 'boot.sock'},server=on,wait=off",
            "-device", f"virtserialport,chardev=boot,name={names.BOOT_PORT}",
            "-chardev", f"socket,id=agent,path={self.folder / 'agent.sock'},server=on,wait=off",
            "-device", f"virtserialport,chardev=agent,name={names.AGENT_PORT}",
            "-fsdev", f"local,id=share,path={self.share},security_model=passthrough",
            "-device", f"virtio-9p-pci,fsdev=share,mount_tag={names.SHARE_TAG}",
        ]  # fmt: skip

    def _make_rootfs(self) -> None:
        """One root file system for all containers: they are told to mount it read-only."""
        root = self.share / "rootfs"
        for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "root"):
            (root / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, root / "bin/busybox")
        applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
        for applet in applets:
            if applet != "busybox":
                os.symlink("busybox", root / "bin" / applet)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")

    def _talk_to_boot_port(self, message: dict[str, Any] | None) -> None:
        boot = self._dial(self.folder / "boot.sock")
        message = message or {
            "version": names.PROTOCOL_VERSION,
            "secret": self.secret,
            "transport": "serial",
            "entropy": secrets.token_hex(64),
            "unix_nanoseconds": time.time_ns(),
        }
        boot.sendall(json.dumps(message).encode() + b"\n")
        self.listener = threading.Thread(target=self._listen, args=(boot,), daemon=True)
        self.listener.start()

    def _dial(self, path: Path) -> socket.socket:
        deadline = time.monotonic() + 10
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(path))
                return connection
            except OSError:
                connection.close()
                if time.monotonic() > deadline or self.qemu.poll() is not None:
                    raise
                time.sleep(0.02)

    def _listen(self, boot: socket.socket) -> None:
        with boot, boot.makefile("rb") as lines:
            for line in lines:
                record = json.loads(line)
                if "phase" in record:
                    self.phases.append((record["phase"], record["uptime"]))
                else:
                    self.log.append(record["log"])

    def connect(self, secret: str | None = None) -> tuple[grpc.Channel, "Stub"]:
        """A channel of its own and calls over it. One at a time: the port has one host end."""
        options = [
            ("grpc.max_receive_message_length", names.MAX_MESSAGE),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.min_reconnect_backoff_ms", 60_000),
            ("grpc.initial_reconnect_backoff_ms", 200),
        ]
        channel = grpc.insecure_channel(f"unix:{self.folder / 'agent.sock'}", options=options)
        return channel, Stub(channel, self.secret if secret is None else secret)

    def create_sandbox(self) -> None:
        share = pb.Share(
            tag=names.SHARE_TAG,
            type="9p",
            target=names.GUEST_SHARED,
            options=["trans=virtio", "version=9p2000.L", "msize=512000"],
        )
        self.stub.CreateSandbox(pb.CreateSandboxRequest(sandbox_id="test", shares=[share], hostname="guest"))

    def console(self) -> str:
        return (self.folder / "console.log").read_text(errors="replace")

    def close(self) -> None:
        self.channel.close()
        self.qemu.kill()
        self.qemu.wait()


class Stub:
    """Calls with the secret and a deadline."""

    def __init__(self, channel: grpc.Channel, secret: str) -> None:
        self._stub = agent_pb2_grpc.AgentStub(channel)
        self._metadata = ((names.SECRET_METADATA, secret),)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._stub, name)
        return lambda request, timeout=CALL_DEADLINE_S: call(
            request, timeout=timeout, metadata=self._metadata, wait_for_ready=True
        )


def spec(container_id: str, *args: str, terminal: bool = False, **changes: Any) -> bytes:
    """config.json for a busybox. `changes` replace top-level keys; `resources`, `process` and
    `linux_changes` are merged.
    """
    capabilities = ["CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID"]
    document: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "root": {"path": f"{names.GUEST_SHARED}/rootfs", "readonly": True},
        "hostname": container_id,
        "process": process(*args, terminal=terminal) | changes.pop("process", {}),
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666"],
            },
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {
            "cgroupsPath": f"{names.GUEST_CGROUP_ROOT}/{container_id}",
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}], **changes.pop("resources", {})},
            **changes.pop("linux_changes", {}),
        },
    }
    document["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    return json.dumps(document | changes).encode()


def process(*args: str, terminal: bool = False) -> dict[str, Any]:
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(args) or ["sleep", "1000"],
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
    }


class Session:
    """One Stdio stream. `stdout`, `stderr` and `status` are complete after `finish`."""

    def __init__(self, stub: Stub, container_id: str, exec_id: str = "") -> None:
        self._queue: queue.SimpleQueue[pb.StdioInput | None] = queue.SimpleQueue()
        self.put(pb.StdioInput(open=pb.ProcessRequest(container_id=container_id, exec_id=exec_id)))
        self.stream = stub.Stdio(self._inputs(), timeout=None)
        self.stdout = b""
        self.stderr = b""
        self.status: int | None = None
        self.closed: list[pb.CloseOutput] = []

    def _inputs(self) -> Iterator[pb.StdioInput]:
        while (message := self._queue.get()) is not None:
            yield message

    def put(self, message: pb.StdioInput | None) -> None:
        self._queue.put(message)

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), names.STDIO_CHUNK):
            self.put(pb.StdioInput(stdin=data[start : start + names.STDIO_CHUNK]))

    def close_stdin(self) -> None:
        self.put(pb.StdioInput(close_stdin=pb.Empty()))

    def read_until(self, what: bytes) -> bytes:
        """Reads until stdout holds `what`."""
        while what not in self.stdout:
            self._take(next(self.stream))
        return self.stdout

    def _take(self, message: pb.StdioOutput) -> None:
        kind = message.WhichOneof("message")
        if kind == "stdout":
            self.stdout += message.stdout
        elif kind == "stderr":
            self.stderr += message.stderr
        elif kind == "closed":
            self.closed.append(message.closed)
        else:
            assert self.status is None, "exited came twice"
            self.status = message.exited.status

    def finish(self) -> "Session":
        for message in self.stream:
            self._take(message)
        self.put(None)
        return self
