"""plan(): pure, so tables."""

import dataclasses
import json
from typing import Any

import pytest

from katapy.config import Hypervisor
from katapy.errors import SpecError, Unsupported
from katapy.hypervisor.vm import Accelerator, ShareType, Size, Transport
from katapy.protocol import names
from katapy.sandbox import plan_wire
from katapy.sandbox.annotations import GUEST_WRITES, MEMORY_MIB, VCPUS, guest_writes, sizing
from katapy.sandbox.guest_spec import place_binds
from katapy.sandbox.plan import ContainerPlan, HostFacts, plan_container, plan_sandbox
from katapy.sandbox.sources import Memory, Source, SourceKind
from katapy.storage.overlay import Overlay
from katapy.storage.shared_directory import ReadOnly

FACTS = HostFacts(
    cpus=4,
    arch="x86_64",
    qemu="/usr/bin/qemu-system-x86_64",
    accelerator=Accelerator.TCG,
    cpu_model="max",
    transport=Transport.SERIAL,
    share=ShareType.VIRTIOFS,
    virtiofsd=None,
    groups=(),
    generation_id=True,
)
DEFAULT = Size(1, 512)


def spec(**linux: Any) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}], **linux},
    }


def container(document: dict[str, Any], sources: dict[int, Source] | None = None) -> ContainerPlan:
    return plan_container("c1", "/bundle", document, sources or {})


def guest(document: dict[str, Any], sources: dict[int, Source] | None = None) -> Any:
    return json.loads(container(document, sources).spec_json)


def test_the_guest_sees_its_own_paths_only() -> None:
    document = spec(cgroupsPath="/machine/c1")
    document["mounts"] = [{"destination": "/data", "type": "bind", "source": "/srv/secret", "options": ["rbind", "ro"]}]
    source = {0: Source(SourceKind.DIRECTORY, "/srv/secret")}
    seen = guest(document, source)
    assert seen["root"]["path"] == "/run/katapy/shared/c1/rootfs"
    assert seen["mounts"][0]["source"] == ""
    placed = json.loads(place_binds(container(document, source).spec_json, {0: "/run/katapy/shared/@1/mounts/0"}))
    assert placed["mounts"][0] == {**document["mounts"][0], "source": "/run/katapy/shared/@1/mounts/0"}
    assert seen["mounts"][0]["options"] == ["rbind", "ro"]
    assert seen["linux"]["cgroupsPath"] == "/katapy/c1"
    assert "/srv/secret" not in json.dumps(seen)


def test_the_hosts_overlay_is_a_bind_of_the_guests() -> None:
    document, overlay = spec(), Overlay(("/low",), "/up", "/work", ())
    options = ["lowerdir=/low", "upperdir=/up", "workdir=/work", "private", "ro"]
    document["mounts"] = [{"destination": "/o", "type": "overlay", "source": "overlay", "options": options}]
    planned = container(document, {0: Source(SourceKind.DIRECTORY, "overlay of /low", overlay=overlay)})
    assert (planned.binds[0].overlay, planned.binds[0].readonly) == (overlay, ReadOnly.TOP)
    assert plan_wire.decode(plan_wire.encode(planned)) == planned
    assert json.loads(planned.spec_json)["mounts"][0] == {
        "destination": "/o", "type": "bind", "source": "", "options": ["bind", "private", "ro"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "options, kinds, expected",
    [
        (["rbind", "rprivate"], (), ["rbind", "rprivate", "ro", "noexec"]),
        (["bind", "nosuid"], (), ["bind", "nosuid"]),
        (["bind", "ro"], ("user",), ["bind", "ro", "noexec"]),
        (["bind", "rw"], ("user",), ["bind", "rw", "noexec"]),
    ],
)
def test_a_bind_keeps_the_flags_of_the_hosts_mount_as_with_runc(
    options: list[str], kinds: tuple[str, ...], expected: list[str]
) -> None:
    document = spec()
    document["mounts"] = [{"destination": "/a", "type": "bind", "source": "/a", "options": options}]
    document["linux"]["namespaces"] += [{"type": kind} for kind in kinds]
    seen = guest(document, {0: Source(SourceKind.DIRECTORY, "/a", flags=("ro", "noexec"))})
    assert seen["mounts"][0]["options"] == expected


def test_binds_carry_what_the_host_enforces() -> None:
    document = spec()
    document["mounts"] = [
        {"destination": "/a", "type": "bind", "source": "a", "options": ["bind", "ro"]},
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/b", "source": "/b", "options": ["rbind"]},
    ]
    sources = {0: Source(SourceKind.FILE, "/bundle/a"), 2: Source(SourceKind.DIRECTORY, "/b")}
    first, second = container(document, sources).binds
    assert (first.index, first.source, first.readonly, first.recursive) == (0, "/bundle/a", ReadOnly.TOP, False)
    assert (second.index, second.source, second.readonly, second.recursive) == (2, "/b", ReadOnly.NO, True)


def test_shared_memory_of_the_host_becomes_a_tmpfs_of_the_guest() -> None:
    document = spec()
    document["mounts"] = [{"destination": "/dev/shm", "type": "bind", "source": "/shm", "options": ["bind"]}]
    memory = Memory("24-1", 65536, 0o1777, 0, 0, False)
    plan = container(document, {0: Source(SourceKind.MEMORY, "/shm", memory)})
    assert plan.memory == (memory,)
    assert plan.binds == ()
    mount = json.loads(plan.spec_json)["mounts"][0]
    assert mount["source"] == "/run/katapy/tmpfs/24-1"
    assert mount["options"] == ["bind"]


def test_there_is_a_cgroup_namespace_and_only_one() -> None:
    for namespaces in ([], [{"type": "cgroup"}]):
        assert guest(spec(namespaces=namespaces))["linux"]["namespaces"] == [{"type": "cgroup"}]


def test_namespace_paths_of_the_host_do_not_reach_the_guest() -> None:
    document = spec(namespaces=[{"type": "network", "path": "/run/netns/x"}, {"type": "ipc", "path": "/proc/1/ns/ipc"}])
    assert guest(document)["linux"]["namespaces"] == [
        {"type": "network", "path": names.GUEST_NETNS},
        {"type": "ipc"},
        {"type": "cgroup"},
    ]
    assert container(document).namespaces == (("network", "/run/netns/x"), ("ipc", "/proc/1/ns/ipc"))


@pytest.mark.parametrize("kind,source", [("user", names.GUEST_SYSFS), ("pid", "sysfs")])
def test_a_user_namespace_binds_the_sysfs_of_the_pod(kind: str, source: str) -> None:
    document = spec(
        namespaces=[{"type": "network"}, {"type": kind}], uidMappings=[{"size": 1}], gidMappings=[{"size": 1}]
    )
    document["mounts"] = [{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}]
    (mount,) = guest(document)["mounts"]
    assert mount["source"] == source
    assert mount["options"] == (["bind", "ro"] if kind == "user" else ["ro"])


def test_only_hooks_of_the_guest_are_passed_on() -> None:
    document = spec()
    document["hooks"] = {"prestart": [{"path": "/bin/a"}], "startContainer": [{"path": "/bin/b"}]}
    assert guest(document)["hooks"] == {"startContainer": [{"path": "/bin/b"}]}


def test_fields_that_katapy_does_not_know_are_kept() -> None:
    document = spec(personality={"domain": "LINUX32"}, novelty=1)
    document["process"]["novelty"] = [1]
    seen = guest(document)
    assert seen["linux"]["novelty"] == 1
    assert seen["linux"]["personality"] == {"domain": "LINUX32"}
    assert seen["process"]["novelty"] == [1]


def test_a_seccomp_listener_that_nothing_notifies_is_left_out() -> None:
    document = spec(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/s", "listenerMetadata": "m"})
    assert guest(document)["linux"]["seccomp"] == {"defaultAction": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    "linux, words",
    [
        ({"namespaces": [{"type": "network"}, {"type": "pid", "path": "/proc/1/ns/pid"}]}, "joining the pid namespace"),
        ({"namespaces": [{"type": "network"}, {"type": "user", "path": "/x"}]}, "joining the user namespace"),
        ({"intelRdt": {"closID": "x"}}, "intelRdt"),
        ({"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/s"}}, "SCMP_ACT_NOTIFY"),
        ({"seccomp": {"syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}}, "SCMP_ACT_NOTIFY"),
    ],
)
def test_what_a_guest_cannot_do_is_refused(linux: dict[str, Any], words: str) -> None:
    document = spec()
    document["linux"].update(linux)
    with pytest.raises(Unsupported, match=words):
        container(document)


def test_host_networking_is_refused() -> None:
    document = spec(namespaces=[{"type": "pid"}])
    with pytest.raises(Unsupported, match="host networking is not supported"):
        plan_sandbox(container(document), DEFAULT, FACTS, Hypervisor())


@pytest.mark.parametrize(
    "resources, expected",
    [
        ({}, (1, 512)),
        ({"memory": {"limit": 100 << 20}}, (1, 512)),
        ({"memory": {"limit": 1 << 30}}, (1, 256 + 1024)),
        ({"memory": {"limit": -1}}, (1, 512)),
        ({"cpu": {"quota": 250_000, "period": 100_000}}, (3, 512)),
        ({"cpu": {"quota": 50_000}}, (1, 512)),
        ({"cpu": {"quota": -1}}, (1, 512)),
        ({"cpu": {"cpus": "0-1,3"}}, (4, 512)),
        ({"cpu": {"quota": 6_400_000, "period": 100_000}}, (4, 512)),
    ],
)
def test_the_machine_is_as_large_as_its_container_needs(resources: dict[str, Any], expected: tuple[int, int]) -> None:
    document = spec(resources=resources)
    planned = plan_sandbox(container(document), DEFAULT, FACTS, Hypervisor())
    assert (planned.vcpus, planned.memory_mib) == expected


@pytest.mark.parametrize(
    "changes, configured, most",
    [
        ({"accelerator": Accelerator.KVM}, 0, 4),
        ({"accelerator": Accelerator.KVM, "cpus": 96}, 0, 16),
        ({"accelerator": Accelerator.KVM, "cpus": 96}, 64, 64),
        ({"accelerator": Accelerator.KVM, "arch": "aarch64"}, 8, 1),
        ({"accelerator": Accelerator.TCG}, 8, 1),
    ],
)
def test_processors_can_come_later_where_a_guest_takes_them(
    changes: dict[str, Any], configured: int, most: int
) -> None:
    facts = dataclasses.replace(FACTS, **changes)
    planned = plan_sandbox(container(spec()), DEFAULT, facts, Hypervisor(max_vcpus=configured))
    assert (planned.vcpus, planned.most.vcpus) == (1, most)


KVM = dataclasses.replace(FACTS, accelerator=Accelerator.KVM, cpus=96)


@pytest.mark.parametrize(
    "facts, resources, start",
    [
        (FACTS, {}, (1, 512)),
        (FACTS, {"memory": {"limit": 700 << 20}}, (1, 512)),
        (FACTS, {"memory": {"limit": (8 * 512 - 256) << 20}}, (1, 512)),
        (FACTS, {"memory": {"limit": 6 << 30}}, (1, 8 * 512)),
        (FACTS, {"memory": {"limit": 60 << 30}}, (1, 64 * 512)),
        (FACTS, {"cpu": {"quota": 250_000}, "memory": {"limit": 1 << 30}}, (3, 512)),
        (KVM, {"cpu": {"quota": 250_000}, "memory": {"limit": 1 << 30}}, (1, 512)),
        (KVM, {"cpu": {"quota": 3_200_000}}, (32, 512)),
    ],
)
def test_clones_start_in_few_sizes_and_grow_to_the_same(
    facts: HostFacts, resources: dict[str, Any], start: tuple[int, int]
) -> None:
    document = spec(resources=resources)
    booted = plan_sandbox(container(document), DEFAULT, facts, Hypervisor())
    cloned = plan_sandbox(container(document), DEFAULT, facts, Hypervisor(), cloned=True)
    assert (cloned.vcpus, cloned.memory_mib) == start
    assert cloned.most.vcpus >= booted.vcpus
    assert cloned.most.memory_mib >= booted.memory_mib
    assert cloned.least == booted.least == Size(1, 512), "what its container needs is the container's affair"


def test_a_clone_that_is_asked_to_be_small_is() -> None:
    cloned = plan_sandbox(container(spec()), Size(1, 256), FACTS, Hypervisor(), cloned=True)
    assert (cloned.memory_mib, cloned.least) == (256, Size(1, 256))


def test_a_clone_knows_what_its_pod_was_granted() -> None:
    document = spec() | {"annotations": {f"{CRI}memory": str(1024 << 20)}}
    cloned = plan_sandbox(container(document), DEFAULT, FACTS, Hypervisor(), cloned=True)
    assert (cloned.memory_mib, cloned.least) == (512, Size(1, 256 + 1024))


def test_a_cpuset_that_is_none_is_an_error_with_its_path() -> None:
    document = spec(resources={"cpu": {"cpus": "a-b"}})
    with pytest.raises(SpecError, match=r"\$\.linux\.resources\.cpu\.cpus"):
        plan_sandbox(container(document), DEFAULT, FACTS, Hypervisor())


class TestAnnotations:
    def test_others_are_not_ours(self) -> None:
        assert sizing({"org.example": "x"}, (), DEFAULT) == DEFAULT

    def test_none_is_allowed_unless_the_configuration_says_so(self) -> None:
        with pytest.raises(Unsupported, match=r"annotation io\.katapy\.vcpus is not allowed"):
            sizing({VCPUS: "2"}, (), DEFAULT)

    def test_one_that_is_allowed_counts(self) -> None:
        assert sizing({VCPUS: "2", MEMORY_MIB: "1024"}, (VCPUS, MEMORY_MIB), DEFAULT) == Size(2, 1024)

    def test_one_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(Unsupported, match="not known"):
            sizing({"io.katapy.kernel": "/x"}, ("io.katapy.kernel",), DEFAULT)

    @pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "1e3", "²", " 1", "99999999999", "1,foo=bar"])
    def test_values_are_numbers_in_a_range(self, value: str) -> None:
        with pytest.raises(SpecError):
            sizing({VCPUS: value}, (VCPUS,), DEFAULT)


CRI, CRIO = "io.kubernetes.cri.sandbox-", "io.kubernetes.cri-o.PodLinuxResources"


@pytest.mark.parametrize(
    "annotations, vcpus, memory",
    [
        ({}, 1, 512),
        ({f"{CRI}cpu-quota": "250000", f"{CRI}cpu-period": "100000"}, 3, 512),
        ({f"{CRI}cpu-quota": "-1", f"{CRI}cpu-shares": "1500"}, 2, 512),
        ({f"{CRI}cpu-quota": "100000", f"{CRI}cpu-period": "100000", f"{CRI}cpu-shares": "4000"}, 1, 512),
        ({f"{CRI}cpu-quota": "9900000", f"{CRI}cpu-period": "100000"}, 4, 512),
        ({f"{CRI}memory": str(1024 << 20)}, 1, 256 + 1024),
        ({f"{CRI}memory": str(1 << 60)}, 1, 4096),
        ({CRIO: '{"cpu_period": 100000, "cpu_quota": 200000, "memory_limit_in_bytes": 1073741824}'}, 2, 256 + 1024),
        ({"pod-linux-resources.crio.io": '{"cpu_quota": 200000}', CRIO: '{"cpu_quota": 400000}'}, 2, 512),
    ],
)
def test_the_machine_is_as_large_as_the_engine_says(annotations: dict[str, str], vcpus: int, memory: int) -> None:
    document = spec() | {"annotations": annotations}
    facts = dataclasses.replace(FACTS, memory_mib=4096)
    plan = plan_sandbox(container(document), DEFAULT, facts, Hypervisor())
    assert (plan.vcpus, plan.memory_mib) == (vcpus, memory)


def test_neither_limits_nor_engines_make_a_machine_larger_than_the_configuration_allows() -> None:
    most = Hypervisor(max_memory_mib=1024, max_vcpus=2)
    limits = spec(resources={"memory": {"limit": 60 << 30}, "cpu": {"cpus": "0-3"}})
    asked = spec() | {"annotations": {f"{CRI}memory": str(60 << 30), f"{CRI}cpu-quota": "9900000"}}
    for document in (limits, asked):
        plan = plan_sandbox(container(document), DEFAULT, FACTS, most)
        assert (plan.vcpus, plan.memory_mib) == (plan.most.vcpus, plan.most.memory_mib) == (2, 1024)


@pytest.mark.parametrize(
    "annotations",
    [
        {f"{CRI}memory": "much"},
        {f"{CRI}memory": "9" * 25},
        {f"{CRI}cpu-quota": "1.5"},
        {CRIO: "{"},
        {CRIO: "[1]"},
        {CRIO: '{"cpu_quota": {}}'},
    ],
)
def test_a_size_that_is_none_is_an_error(annotations: dict[str, str]) -> None:
    document = spec() | {"annotations": annotations}
    with pytest.raises(SpecError):
        plan_sandbox(container(document), DEFAULT, FACTS, Hypervisor())


def test_changes_that_stay_in_the_guest_need_another_root() -> None:
    made = plan_container("c1", "/bundle", spec(), {}, guest_writes=True)
    assert made.guest_writes
    assert json.loads(made.spec_json)["root"]["path"] == "/run/katapy/writes/c1/root"


@pytest.mark.parametrize("value,default,wanted", [("true", False, True), ("false", True, False), (None, True, True)])
def test_where_a_pod_wants_its_changes(value: str | None, default: bool, wanted: bool) -> None:
    asked = {GUEST_WRITES: value} if value else {}
    assert guest_writes(asked, [GUEST_WRITES], default) is wanted
    assert sizing(asked, [GUEST_WRITES], DEFAULT) == DEFAULT
    if value:
        with pytest.raises(Unsupported, match="not allowed"):
            guest_writes(asked, [], default)
        with pytest.raises(Unsupported, match="not allowed"):
            sizing(asked, [], DEFAULT)


def test_where_a_pod_wants_its_changes_is_yes_or_no() -> None:
    with pytest.raises(SpecError, match="neither true nor false"):
        guest_writes({GUEST_WRITES: "1"}, [GUEST_WRITES], False)


def test_a_spec_that_the_guest_could_not_take_is_refused_at_once() -> None:
    with pytest.raises(SpecError, match="too long for the guest"):
        container(spec() | {"annotations": {"a": "x" * (4 << 20)}})
