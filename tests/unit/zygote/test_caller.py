"""How a caller of the zygote stands, and whom a warm machine suits."""

import dataclasses
import os
import resource
import signal
import subprocess

import pytest

from katapy.storage.virtiofsd import NOFILE
from katapy.zygote import caller

OWN = caller.read(os.getpid())
UNLIMITED = resource.RLIM_INFINITY


def limited(limit: int, value: tuple[int, int]) -> caller.Standing:
    return dataclasses.replace(OWN, limits={**OWN.limits, limit: value})


def with_files(hard: int) -> caller.Standing:
    return limited(resource.RLIMIT_NOFILE, (100, hard))


def test_a_child_stands_as_its_parent() -> None:
    with subprocess.Popen(["sleep", "100"]) as child:
        found = caller.read(child.pid)
        child.send_signal(signal.SIGKILL)
    assert found == OWN
    assert caller.difference(OWN, found) == ""


def test_who_has_gone_can_t_be_read() -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    with pytest.raises(OSError, match="No such"):
        caller.read(child.pid)


@pytest.mark.parametrize("name", ["mnt namespace", "net namespace", "root directory", "CapEff", "NoNewPrivs"])
def test_what_must_be_equal_is_named(name: str) -> None:
    other = dataclasses.replace(OWN, fixed={**OWN.fixed, name: "other"})
    assert caller.difference(OWN, other) == name


def test_limits_that_machines_don_t_inherit_don_t_matter() -> None:
    assert caller.suits_warm(OWN, OWN)
    assert caller.suits_warm(limited(resource.RLIMIT_CORE, (1, 2)), OWN)
    assert caller.suits_warm(dataclasses.replace(OWN, oom_score_adj=OWN.oom_score_adj + 1), OWN)


@pytest.mark.parametrize(
    "other",
    [
        limited(resource.RLIMIT_FSIZE, (2**50, 2**50)),
        dataclasses.replace(OWN, niceness=OWN.niceness + 1),
        dataclasses.replace(OWN, processors=OWN.processors | {4095}),
    ],
)
def test_others_do(other: caller.Standing) -> None:
    assert not caller.suits_warm(other, OWN)


@pytest.mark.parametrize(
    "one,other,suits",
    [(NOFILE, NOFILE, True), (NOFILE, UNLIMITED, True), (NOFILE - 1, NOFILE, False), (100, 100, True)],
)
def test_descriptors_matter_as_far_as_virtiofsd_uses_them(one: int, other: int, suits: bool) -> None:
    assert caller.suits_warm(with_files(one), with_files(other)) is suits


@pytest.mark.parametrize(
    "one,other,suits",
    [(32768, 32768, True), (32768, UNLIMITED, True), (UNLIMITED, 32768, False), (UNLIMITED, UNLIMITED, True)],
)
def test_a_caller_may_start_fewer_processes(one: int, other: int, suits: bool) -> None:
    theirs, ours = (limited(resource.RLIMIT_NPROC, (100, hard)) for hard in (one, other))
    assert caller.suits_warm(theirs, ours) is suits
