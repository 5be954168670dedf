"""Keeps OpenSSL out of the supervisor: 4 MB of memory in every pod, for TLS that nothing here speaks. Supervisor only.

asyncio does without `ssl` where Python was built without it. qemu.qmp wants the name of one class for its annotations.
`hashlib` and `hmac` have functions of their own when `_hashlib` is missing.
"""

import sys
import types


def keep_out() -> None:
    """Imports asyncio. To be called before anything else does; too late, it changes nothing."""
    if "ssl" in sys.modules:
        return
    absent: types.ModuleType | None = None
    sys.modules["ssl"] = sys.modules["_hashlib"] = absent  # type: ignore[assignment]  # how Python says: not there
    import asyncio  # noqa: F401

    placeholder = types.ModuleType("ssl", "See katapy.supervisor.openssl.")
    placeholder.SSLContext = type("SSLContext", (), {})  # type: ignore[attr-defined]
    sys.modules["ssl"] = placeholder
