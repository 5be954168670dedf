"""What `create` and the zygote say to each other."""

import dataclasses

import pytest
from framework.besieged import make_plan
from hypothesis import given
from hypothesis import strategies as st

from katapy.config import Config, Factory, Hypervisor, Timeouts
from katapy.factory.maker import Obtained
from katapy.supervisor.launch import Task
from katapy.zygote import order, wire
from katapy.zygote.order import Order

PLAN = make_plan()


def make_task() -> Task:
    return Task(PLAN, Config(), "/run/katapy", ("/sys/fs/cgroup/a/cgroup.procs",), 12.5, Obtained("/t/abc"), "hm")


def test_a_header_has_its_length_in_front() -> None:
    text = wire.header("supervise", body=7)
    assert int.from_bytes(text[: wire.LENGTH], "big") == len(text) - wire.LENGTH
    assert wire.parse_header(text[wire.LENGTH :]) == {"katapy": wire.katapy_here(), "op": "supervise", "body": 7}


@given(st.binary(max_size=200))
def test_any_other_header_is_malformed(text: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.parse_header(text)


@pytest.mark.parametrize("text", [b"{}", b'{"op": "status"}', b'{"katapy": 1, "op": "status"}', b"[1]", b"[" * 5000])
def test_a_header_names_katapy_and_what_is_wanted(text: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.parse_header(text)


def test_an_order_arrives_as_it_was() -> None:
    sent = Order(make_task(), ((b"PATH", b"/bin"), (b"ODD", b"\xff\xfe")))
    assert order.decode(order.encode(sent)) == sent


def test_a_path_that_is_not_utf8_is_no_order() -> None:
    task = dataclasses.replace(make_task(), root="/run/\udcff")
    with pytest.raises(ValueError, match="surrogates"):
        order.encode(Order(task, ()))


@given(st.binary(max_size=200))
def test_anything_else_is_no_order(body: bytes) -> None:
    with pytest.raises(wire.Malformed):
        order.decode(body)


@pytest.mark.parametrize(
    "plan,config,template",
    [
        (dataclasses.replace(PLAN, vcpus=PLAN.vcpus + 1), Config(), "abc"),
        (dataclasses.replace(PLAN, memory_mib=PLAN.memory_mib + 1), Config(), "abc"),
        (dataclasses.replace(PLAN, facts=dataclasses.replace(PLAN.facts, cpu_model="other")), Config(), "abc"),
        (PLAN, Config(timeouts=Timeouts(boot_s=1)), "abc"),
        (PLAN, Config(hypervisor=Hypervisor(kernel_parameters=("debug",))), "abc"),
        (PLAN, Config(factory=Factory(dir="/elsewhere")), "abc"),
        (PLAN, Config(), "abd"),
    ],
)
def test_a_machine_of_another_kind_has_another_digest(plan: object, config: Config, template: str) -> None:
    assert wire.machine_digest(plan, config, template) != wire.machine_digest(PLAN, Config(), "abc")  # type: ignore[arg-type]


def test_the_pod_does_not_matter_to_the_digest() -> None:
    other = dataclasses.replace(PLAN, id="other", container=dataclasses.replace(PLAN.container, hostname="other"))
    assert wire.machine_digest(other, Config(), "abc") == wire.machine_digest(PLAN, Config(), "abc")
