"""A supervisor loads no OpenSSL, and no second implementation of protobuf, whatever its libraries would like."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
PROGRAM = """
import sys
from katapy.supervisor import unneeded
unneeded.keep_out()
unneeded.keep_out()
import hashlib, hmac
import katapy.supervisor.loop, katapy.hypervisor.qemu.driver, katapy.hypervisor.qemu.qmp
assert hmac.digest(b"key", b"words", "sha256") == hmac.new(b"key", b"words", hashlib.sha256).digest()
print(*sorted(name for name, module in sys.modules.items() if module is not None))
print(*(line.split()[-1] for line in open("/proc/self/maps") if "/" in line))
"""


def test_everything_is_imported_without_it() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    modules, files = done.stdout.splitlines()
    assert {"grpc", "qemu.qmp", "asyncio"} <= set(modules.split())
    assert {"_ssl", "_hashlib", "shutil", "google.protobuf.text_format"}.isdisjoint(modules.split())
    assert "libcrypto" not in files
    assert "libssl" not in files
