"""Errors of the guest, with the host's paths."""

import pytest
from unit.sandbox.test_plan import spec

from katapy.errors import AgentError, KatapyError, Timeout
from katapy.sandbox.host_names import named_by_host
from katapy.sandbox.plan import plan_container
from katapy.sandbox.sources import Source, SourceKind

SHARED = "/run/katapy/shared"
PATHS = {0: f"{SHARED}/@1/mounts/0", 1: f"{SHARED}/@10/mounts/0"}


@pytest.mark.parametrize(
    "said, told",
    [
        (f"mount `{PATHS[1]}` to `etc`: Not a directory", "mount `/srv/b` to `etc`: Not a directory"),
        (f"mount `{PATHS[0]}` to `etc`: Not a directory", "mount `/srv/a` to `etc`: Not a directory"),
        (f"open `{SHARED}/c1/rootfs`: No such file", "open `/bundle/rootfs`: No such file"),
        (f"open `{SHARED}/c2/rootfs`: No such file", f"open `{SHARED}/c2/rootfs`: No such file"),
        (f"{PATHS[0]} " * 50, f"/srv/a {f'{PATHS[0]} ' * 49}"),
    ],
)
def test_paths_of_the_share_are_those_of_the_spec(said: str, told: str) -> None:
    document = spec()
    document["mounts"] = [{"destination": "/etc", "type": "bind", "source": f"/srv/{name}"} for name in "ab"]
    sources = {n: Source(SourceKind.DIRECTORY, f"/srv/{name}") for n, name in enumerate("ab")}
    error = named_by_host(AgentError(said), plan_container("c1", "/bundle", document, sources), PATHS)
    assert (type(error), str(error)) == (AgentError, told)


def test_other_errors_stay_what_they_are() -> None:
    container = plan_container("c1", "/bundle", spec(), {})
    error: KatapyError = named_by_host(Timeout("the agent", 3), container, {})
    assert (type(error), str(error)) == (Timeout, "timed out after 3 s: the agent")
