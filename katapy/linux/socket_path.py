"""Unix sockets below paths of any length: an address holds 107 bytes, a state root may be longer. Supervisor only.

(The CLI has its own, katapy.control.endpoint: contextlib costs an import there.)
"""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def short_name(path: str) -> Iterator[str]:
    """Another name of the socket `path`, valid inside the context, that fits into an address. Raises OSError."""
    folder, name = os.path.split(path)
    fd = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
