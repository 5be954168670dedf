"""Code that is given back is read again when it is needed."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, grpc.aio
from katapy.linux import code_pages

def resident():
    mapping, found = "", {}
    for line in open("/proc/self/smaps"):
        words = line.split()
        if len(words) >= 5 and not words[0].endswith(":"):
            mapping = words[-1] if words[1] == "r-xp" else ""
        elif words[0] == "Rss:" and "cygrpc" in mapping:
            found[mapping] = int(words[1])
    return sum(found.values())

async def fails():
    async with grpc.aio.insecure_channel("unix:/nosuch") as channel:
        try:
            await channel.unary_unary("/a/b")(b"")
        except grpc.aio.AioRpcError as error:
            return error.code().name

before = resident()
code_pages.forget(1 << 20)
print(before > 1000, resident() < before / 2, asyncio.run(fails()))
"""


def test_pages_go_and_come_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.stdout == "True True UNAVAILABLE\n", done.stderr
