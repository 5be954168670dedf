"""The committed code of the agent's protocol is what the generator makes of agent.proto. No root."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(CHECKOUT / "setup/generate_protocol.py"), str(tmp_path)], check=True, timeout=60
    )
    made = sorted((tmp_path / "katapy/protocol").iterdir())
    assert [path.name for path in made] == [
        "agent_pb2.py",
        "agent_pb2.pyi",
        "agent_pb2_grpc.py",
        "agent_pb2_grpc.pyi",
    ]
    stale = [p.name for p in made if p.read_bytes() != (CHECKOUT / "katapy/protocol" / p.name).read_bytes()]
    assert not stale, "run 'make proto'"
