"""`linux.resources` of the runtime-spec: limits of a container, in config.json and in `update`. See spec.py. CLI."""

from typing import Annotated, Any

import msgspec

Uint16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
Uint32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Uint64 = Annotated[int, msgspec.Meta(ge=0)]
"""2**64 - 1 is as far as msgspec reads an integer; beyond it is a float, and refused."""


class DeviceRule(msgspec.Struct, frozen=True):
    allow: bool | None = None
    type: str | None = None
    major: Int64 | None = None
    minor: Int64 | None = None
    access: str | None = None


class Memory(msgspec.Struct, frozen=True, rename="camel"):
    limit: Int64 | None = None
    reservation: Int64 | None = None
    swap: Int64 | None = None
    kernel: Int64 | None = None
    kernel_tcp: Int64 | None = msgspec.field(default=None, name="kernelTCP")
    swappiness: Uint64 | None = None
    disable_oom_killer: bool | None = msgspec.field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class Cpu(msgspec.Struct, frozen=True, rename="camel"):
    shares: Uint64 | None = None
    quota: Int64 | None = None
    burst: Uint64 | None = None
    period: Uint64 | None = None
    realtime_runtime: Int64 | None = None
    realtime_period: Uint64 | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: Int64 | None = None


class Pids(msgspec.Struct, frozen=True):
    limit: Int64 | None = None


class WeightDevice(msgspec.Struct, frozen=True, rename="camel"):
    major: Int64
    minor: Int64
    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None


class ThrottleDevice(msgspec.Struct, frozen=True):
    major: Int64
    minor: Int64
    rate: Uint64


class BlockIo(msgspec.Struct, frozen=True, rename="camel"):
    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None
    weight_device: list[WeightDevice] | None = None
    throttle_read_bps_device: list[ThrottleDevice] | None = None
    throttle_write_bps_device: list[ThrottleDevice] | None = None
    throttle_read_iops_device: list[ThrottleDevice] | None = msgspec.field(default=None, name="throttleReadIOPSDevice")
    throttle_write_iops_device: list[ThrottleDevice] | None = msgspec.field(
        default=None, name="throttleWriteIOPSDevice"
    )


class HugepageLimit(msgspec.Struct, frozen=True, rename="camel"):
    page_size: str
    limit: Uint64


class Priority(msgspec.Struct, frozen=True):
    name: str | None = None
    priority: Uint32 | None = None


class Network(msgspec.Struct, frozen=True):
    class_id: Uint32 | None = msgspec.field(default=None, name="classID")
    priorities: list[Priority] | None = None


class Resources(msgspec.Struct, frozen=True, rename="camel"):
    devices: list[DeviceRule] | None = None
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIo | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: list[HugepageLimit] | None = None
    network: Network | None = None
    rdma: dict[str, Any] | None = None
    unified: dict[str, str] | None = None
