"""Clones over vsock: what tests/vm/test_template.py asks of all clones, and what only this transport can get wrong."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from framework.fixtures import BundleMaker
from framework.runtime import Container, Runtime, owner_of

pytestmark = pytest.mark.long
ROUNDS = 2


def test_clones_have_cids_of_their_own_and_keep_their_connections(runtime: Runtime, bundle: BundleMaker) -> None:
    """Two at once. Their kernels are told that they are clones, and cut the connections they have: the agents must not
    have let the host make one before (seen as `Stream removed`, once in twelve)."""
    cids = []
    for _ in range(ROUNDS):
        with ThreadPoolExecutor() as pool:
            pair = list(pool.map(runtime.start, [bundle(), bundle()]))
        cids += [cid_of_clone(container) for container in pair]
        assert [container.sh("echo well") for container in pair] == ["well", "well"]
        for container in pair:
            log = container.log
            assert "cut" not in log, log
            container.delete("--force")
    assert len(set(cids)) == 2 * ROUNDS


def cid_of_clone(container: Container) -> str:
    argv = Path(f"/proc/{owner_of(container, 'qemu')}/cmdline").read_text().split("\0")
    assert "-incoming" in argv
    (cid,) = re.findall(r"guest-cid=(\d+)", " ".join(argv))
    return str(cid)
