"""Keeps out of the supervisor what its libraries import and nothing here uses: 5 MB of memory in every pod, 20 ms.

OpenSSL (4 MB), for TLS that nothing here speaks: asyncio does without `ssl` where Python was built without it, qemu.qmp
wants the name of one class for its annotations; `hashlib` and `hmac` have functions of their own when `_hashlib` is
missing. And protobuf's messages in Python with its text format (1 MB): imported by its descriptors, used only where its
C implementation is missing.
"""

import sys
import types


def keep_out() -> None:
    """Imports asyncio. To be called before anything else does; too late, it changes nothing."""
    if "ssl" not in sys.modules:
        _keep_out_openssl()
    if "google.protobuf" not in sys.modules:
        _keep_out_python_messages()


def _keep_out_openssl() -> None:
    absent: types.ModuleType | None = None
    sys.modules["ssl"] = sys.modules["_hashlib"] = absent  # type: ignore[assignment]  # how Python says: not there
    import asyncio  # noqa: F401

    placeholder = types.ModuleType("ssl", "See katapy.supervisor.unneeded.")
    placeholder.SSLContext = type("SSLContext", (), {})  # type: ignore[attr-defined]  # a module takes any
    sys.modules["ssl"] = placeholder


def _keep_out_python_messages() -> None:
    from google.protobuf.internal import api_implementation

    if api_implementation.Type() != "python":
        name = "google.protobuf.internal.python_message"
        sys.modules[name] = types.ModuleType(name, "See katapy.supervisor.unneeded.")
