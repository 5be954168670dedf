"""A containerd of the tests' own, with the shipped configuration and the CRI over gRPC. Runs in pytest.

Root, state and socket lie below one folder; pods get cgroups that carry the token, so the leak check sees what is
theirs.
"""

import contextlib
import gzip
import hashlib
import importlib
import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import grpc
from grpc_tools import protoc  # type: ignore[import-untyped]

from framework.bundle import make_rootfs
from framework.podman import INSTALLED, launcher, make_cgroup, remove_cgroup, unmount_below
from framework.runtime import BOOT_S, Runtime
from framework.wait import wait_for

IMAGE = "localhost/box:1"
PAUSE = "localhost/pause:1"
_PROTO = Path(__file__).with_name("cri.proto")
_STATE_ROOT = 'Root = "/run/katapy"'

_MAIN = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{folder}/s"
[ttrpc]
  address = "{folder}/t"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  disable_hugetlb_controller = true
  restrict_oom_score_adj = true
  enable_selinux = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{folder}/cni"
"""


def protocol(folder: Path) -> Any:
    """The module made from cri.proto."""
    arguments = ["protoc", f"-I{_PROTO.parent}", f"--python_out={folder}", f"--grpc_python_out={folder}", str(_PROTO)]
    assert protoc.main(arguments) == 0
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("cri_pb2"), importlib.import_module("cri_pb2_grpc")
    finally:
        sys.path.remove(str(folder))


class Containerd:
    """`start` and `stop` as often as a test wants; `close` takes away all that it left on the host."""

    def __init__(self, folder: Path, config: str, runtime: Runtime, cgroup: str, cni: tuple[str, str]) -> None:
        """config: text of the shipped configuration. cni: folder of the plug-ins, and a list of them as JSON."""
        self.folder = folder
        self.cgroup = cgroup
        for name in ("root", "state", "cni", "logs", "proto", "bin"):
            (folder / name).mkdir(parents=True)
        self._pb, self._stubs = protocol(folder / "proto")
        path = launcher(folder / "bin" / runtime.name, runtime)
        text = config.replace(INSTALLED, str(path)).replace(_STATE_ROOT, f'Root = "{runtime.root}"')
        (folder / "config.toml").write_text(_MAIN.format(folder=folder, pause=PAUSE, cni=cni[0]) + text)
        (folder / "cni/10-test.conflist").write_text(cni[1])
        make_cgroup(cgroup.strip("/"))
        self.start()
        pause = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000000 & wait; done"]
        for name, command in ((IMAGE, ["/bin/sh"]), (PAUSE, pause)):
            self._import(name, command)

    # -- the daemon ------------------------------------------------------------------------------------

    def start(self) -> None:
        log = (self.folder / "containerd.log").open("ab")
        with log:
            argv = ["containerd", "--config", str(self.folder / "config.toml"), "--log-level", "warn"]
            self._daemon = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        channel = grpc.insecure_channel(f"unix://{self.folder}/s")
        self._channel, self.runtime = channel, self._stubs.RuntimeServiceStub(channel)
        try:
            grpc.channel_ready_future(channel).result(60)
            wait_for("the CRI to answer", self._answers, 60)
        except BaseException as e:
            self.stop()
            raise AssertionError(f"containerd does not serve the CRI:\n{self.log()[-4000:]}") from e

    def _answers(self) -> bool:
        try:
            self.call("Status", self._pb.Nothing())
        except grpc.RpcError:
            return False
        return True

    def stop(self) -> None:
        """SIGTERM, as a restart for an upgrade does it: pods go on."""
        self._channel.close()
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(60)

    def close(self) -> None:
        try:
            for pod in self.call("ListPodSandbox", self._pb.Nothing()).items:
                with contextlib.suppress(grpc.RpcError):
                    self.remove(pod.id)
        finally:
            self.stop()
            unmount_below(self.folder)
            remove_cgroup(self.cgroup.strip("/"))

    def log(self) -> str:
        return (self.folder / "containerd.log").read_text()

    def call(self, method: str, request: Any, timeout: float = BOOT_S) -> Any:
        """Raises grpc.RpcError."""
        return getattr(self.runtime, method)(request, timeout=timeout)

    def message(self, name: str, **fields: Any) -> Any:
        return getattr(self._pb, name)(**fields)

    # -- images ------------------------------------------------------------------------------------------

    def _import(self, name: str, command: list[str]) -> None:
        archive = self.folder / "image.tar"
        _write_image(archive, make_rootfs(self.folder / f"rootfs-{command[-1][:4].strip('/')}"), name, command)
        ctr = ["ctr", f"--address={self.folder}/s", "--namespace=k8s.io"]
        subprocess.run([*ctr, "images", "import", str(archive)], check=True, capture_output=True, timeout=60)
        archive.unlink()

    # -- pods ----------------------------------------------------------------------------------------------

    def pod_config(self, name: str, pid: int = 1) -> Any:
        """pid: 0 if the pod's containers share their processes."""
        security = {"namespace_options": {"pid": pid}}
        return self.message(
            "PodSandboxConfig",
            metadata={"name": name, "uid": f"uid-{name}", "namespace": "default"},
            hostname=name,
            log_directory=str(self.folder / "logs"),
            linux={"cgroup_parent": f"{self.cgroup}/{name}", "security_context": security},
        )

    def run_pod(self, config: Any) -> str:
        request = self.message("RunPodSandboxRequest", config=config, runtime_handler="katapy")
        return str(self.call("RunPodSandbox", request).pod_sandbox_id)

    def remove(self, pod: str) -> None:
        """Stops and removes a pod with its containers."""
        for method in ("StopPodSandbox", "RemovePodSandbox"):
            self.call(method, self.message("PodSandboxId", pod_sandbox_id=pod))

    def create(self, pod: str, config: Any, name: str, *command: str, **more: Any) -> str:
        made = self.message(
            "ContainerConfig",
            metadata={"name": name},
            image={"image": IMAGE},
            command=command,
            log_path=f"{name}.log",
            envs=[{"key": "PATH", "value": "/bin"}],
            **more,
        )
        request = self.message("CreateContainerRequest", pod_sandbox_id=pod, config=made, sandbox_config=config)
        return str(self.call("CreateContainer", request).container_id)

    def start_container(self, pod: str, config: Any, name: str, *command: str, **more: Any) -> str:
        container = self.create(pod, config, name, *command, **more)
        self.on("StartContainer", container)
        return container

    def on(self, method: str, container: str) -> Any:
        return self.call(method, self.message("ContainerId", container_id=container))

    def status(self, container: str) -> Any:
        return self.on("ContainerStatus", container).status

    def wait_exit(self, container: str, deadline_s: float = 90.0) -> int:
        wait_for(f"{container[:12]} has ended", lambda: self.status(container).state == 2, deadline_s)
        return int(self.status(container).exit_code)

    def exec_sync(self, container: str, *command: str, timeout: int = 60) -> Any:
        return self.call(
            "ExecSync", self.message("ExecSyncRequest", container_id=container, cmd=command, timeout=timeout)
        )

    def sh(self, container: str, script: str) -> str:
        """Output of a shell script in the container, without the last newline. AssertionError unless it ends with 0."""
        done = self.exec_sync(container, "sh", "-c", script)
        assert done.exit_code == 0, done
        return str(done.stdout.decode().rstrip("\n"))


def _write_image(path: Path, rootfs: Path, name: str, command: list[str]) -> None:
    """An OCI image of one layer as a tar archive."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(rootfs, arcname=".")
    blob = gzip.compress(layer.getvalue(), 1)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer.getvalue())]},
    }
    kind = "application/vnd.oci.image"
    configuration = json.dumps(config).encode()
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": _descriptor(f"{kind}.config.v1+json", configuration),
        "layers": [_descriptor(f"{kind}.layer.v1.tar+gzip", blob)],
    }).encode()  # fmt: skip
    top = _descriptor(f"{kind}.manifest.v1+json", manifest)
    index = {"schemaVersion": 2, "manifests": [{**top, "annotations": {"io.containerd.image.name": name}}]}
    with tarfile.open(path, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(tar, "index.json", json.dumps(index).encode())
        for data in (blob, configuration, manifest):
            _add(tar, "blobs/" + _digest(data).replace(":", "/"), data)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), int(time.time())
    tar.addfile(info, io.BytesIO(data))
