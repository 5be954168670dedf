"""What `create` and the zygote say to each other. Both ends are the same katapy, and root. No policy here.

A request is a header (4 bytes of length, a JSON object) and a body. The zygote reads the header and no further; the
body (an Order) is for the supervisor that gets the connection. An answer is a JSON line: {"pid": n}, {"refused": why},
or what `status` shows. After {"pid"} `create` sends one byte with two descriptors, the listening control socket and the
lifeline: until then the supervisor does nothing for it, and no two supervisors ever have the same listener.
"""

import json
import os
from _blake2 import blake2b  # hashlib would bring OpenSSL into every supervisor
from collections.abc import Mapping
from typing import Any

import katapy
from katapy.config import Config
from katapy.errors import KatapyError
from katapy.sandbox.plan import MachinePlan

SOCKET = ".zygote.sock"
"""In the folder of templates, which is root's alone."""
LENGTH = 4
MAX_HEADER = 4096
MAX_BODY = 64 * 1024 * 1024
MAX_ANSWER = 64 * 1024
GO = b"!"


class Malformed(KatapyError):
    """Not a message of this protocol."""


def socket_path(config: Config) -> str:
    return f"{config.factory.dir}/{SOCKET}"


def katapy_here() -> str:
    """Which katapy this process is: a zygote of another one is no use."""
    return f"{katapy.__version__} {os.path.dirname(os.path.realpath(katapy.__file__))}"


def header(op: str, **fields: Any) -> bytes:
    """With its length in front."""
    text = json.dumps({"katapy": katapy_here(), "op": op, **fields}).encode()
    return len(text).to_bytes(LENGTH, "big") + text


def parse_header(text: bytes) -> dict[str, Any]:
    """Raises Malformed."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise Malformed("the header is not JSON") from e
    if not isinstance(found, dict) or not all(isinstance(found.get(k), str) for k in ("katapy", "op")):
        raise Malformed("the header is not an object with katapy and op")
    return found


def answer(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(fields)).encode() + b"\n"


def machine_digest(plan: MachinePlan, config: Config, template: str) -> str:
    """Equal for pods that any machine of that size would suit. `template`: its key, which stands for all files that
    shape the guest; everything else that shapes machine or supervisor is in the facts and in the configuration."""
    text = repr((plan.vcpus, plan.memory_mib, plan.facts, config, template))
    return blake2b(text.encode(), digest_size=16).hexdigest()
