"""Generates katapy/protocol/agent_pb2*.py[i] from agent.proto: `generate_protocol.py [TARGET]`. Build host.

TARGET defaults to the checkout; the tests give a temporary folder and compare.
"""

import sys
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

CHECKOUT = Path(__file__).resolve().parent.parent
PROTO = "katapy/protocol/agent.proto"


def generate(target: Path) -> None:
    """Writes below `target`/katapy/protocol. Raises SystemExit if protoc refuses the file."""
    plugins = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--proto_path={CHECKOUT}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--plugin=protoc-gen-mypy={plugins}/protoc-gen-mypy",
        f"--plugin=protoc-gen-mypy_grpc={plugins}/protoc-gen-mypy_grpc",
        f"--mypy_out={target}",
        f"--mypy_grpc_out={target}",
        PROTO,
    ]
    if status := protoc.main(arguments):
        raise SystemExit(f"error: protoc ended with status {status}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKOUT)
