"""Which pod a bundle belongs to, by what each engine writes."""

from collections.abc import Callable

import pytest

from katapy.errors import KatapyError, NotFound, SpecError, Unsupported, WrongStatus
from katapy.sandbox.pods import World, find_pod
from katapy.sandbox.store import State

CRI, CRIO, DOCKER = "io.kubernetes.cri", "io.kubernetes.cri-o", "io.kubernetes"
NEW = (("network", None), ("ipc", None))
INFRA = (("network", "/run/netns/a"), ("ipc", "/proc/100/ns/ipc"))


def state(id: str, pid: int, sandbox: str = "", status: str = "running") -> State:
    return State(id=id, sandbox=sandbox or id, bundle="/b", status=status, pid=pid)


def world(*states: State, same: Callable[[str, str], bool] | None = None) -> World:
    """Of containers; the namespace /run/netns/a is that of process 100."""
    known = {s.id: s for s in states}
    names = {"/run/netns/a": "/proc/100/ns/net"}
    same = same or (lambda a, b: names.get(a, a) == names.get(b, b))
    return World(known.get, lambda: [s for s in states if s.pid], same)


POD = world(state("infra", 100), state("app", 101, "infra"), state("other", 200))


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {f"{CRI}.container-type": "sandbox", f"{CRI}.sandbox-id": "infra"},
        {f"{CRIO}.ContainerType": "sandbox", f"{CRIO}.SandboxID": "infra"},
        {f"{DOCKER}.docker.type": "podsandbox"},
        {f"{CRIO}.SandboxID": "me"},
        {f"{CRIO}.SandboxID": "a pod without an infra container"},
    ],
)
def test_a_machine_of_its_own(annotations: dict[str, str]) -> None:
    assert find_pod("me", annotations, NEW, POD) is None


@pytest.mark.parametrize(
    "annotations",
    [
        {f"{CRI}.container-type": "container", f"{CRI}.sandbox-id": "infra"},
        {f"{CRIO}.ContainerType": "container", f"{CRIO}.SandboxID": "infra"},
        {f"{DOCKER}.docker.type": "container", f"{DOCKER}.sandbox.id": "infra"},
        {f"{CRIO}.SandboxID": "infra"},
        {f"{CRIO}.SandboxID": "name-of-the-pod"},
        {f"{CRIO}.SandboxID": "app"},
    ],
    ids=["containerd", "cri-o", "cri-dockerd", "podman", "podman 4.0: the pod's name", "a member's id"],
)
def test_a_member_joins_its_sandbox(annotations: dict[str, str]) -> None:
    pod = find_pod("me", annotations, INFRA, POD)
    assert pod is not None
    assert pod.sandbox.id == "infra"
    assert pod.joined == {"network": "infra", "ipc": "infra"}


def test_without_annotations_a_process_by_name_counts_and_a_place_does_not() -> None:
    pod = find_pod("me", {}, (("network", None), ("pid", "/proc/101/ns/pid")), POD)
    assert pod is not None
    assert (pod.sandbox.id, pod.joined) == ("infra", {"pid": "app"})
    assert find_pod("me", {}, (("network", "/run/netns/a"),), POD) is None


def refusal(annotations: dict[str, str], namespaces: tuple[tuple[str, str | None], ...], around: World) -> KatapyError:
    with pytest.raises(KatapyError) as caught:
        find_pod("me", annotations, namespaces, around)
    return caught.value


CLAIM = {f"{CRI}.container-type": "container", f"{CRI}.sandbox-id": "infra"}


def test_what_cannot_be_is_an_error() -> None:
    assert isinstance(refusal({f"{CRI}.container-type": "container"}, INFRA, POD), SpecError)
    assert isinstance(refusal(CLAIM, NEW, world()), NotFound)
    assert isinstance(refusal(CLAIM, INFRA, world(state("infra", 0, status="stopped"))), WrongStatus)
    orphan = world(state("app", 101, "infra"))
    assert isinstance(refusal({f"{CRIO}.SandboxID": "app"}, NEW, orphan), WrongStatus)


@pytest.mark.parametrize(
    "namespaces",
    [
        (("network", "/run/netns/b"),),
        (("network", "/proc/200/ns/net"),),
        (("network", None), ("ipc", "/proc/200/ns/ipc")),
        (("network", None), ("pid", "/proc/1/ns/pid")),
        (("network", None), ("user", "/proc/100/ns/user")),
        (("ipc", None),),
        (("network", None), ("ipc", None), ("uts", None)),
    ],
)
def test_a_claim_alone_opens_no_door(namespaces: tuple[tuple[str, str | None], ...]) -> None:
    """A member shares a namespace with its pod; none of its namespaces is another pod's, or the host's."""
    assert isinstance(refusal(CLAIM, namespaces, POD), Unsupported)
