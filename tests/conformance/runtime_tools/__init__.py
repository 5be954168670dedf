"""runtime-tools 0.9.0: the validation programs of the runtime specification, one binary each. go.mod pins them."""

import json
import re
import shutil
import sys
from pathlib import Path

from conformance.suite import Suite, go

HERE = Path(__file__).resolve().parent
MODULE = "github.com/opencontainers/runtime-tools"


def _programs(_folder: Path) -> list[str]:
    return re.findall(r"/validation/(\w+)\"", (HERE / "programs.go").read_text())


def _prepare(folder: Path) -> None:
    """Compiles what is not there yet; runtimetest is what runs in the containers."""
    wanted = {"runtimetest": "cmd/runtimetest", **{name: f"validation/{name}" for name in _programs(folder)}}
    for name, package in wanted.items():
        if not (folder / name).exists():
            print(f"building {name}", file=sys.stderr, flush=True)
            go("build", "-o", str(folder / name), f"{MODULE}/{package}", cwd=HERE, mod="readonly")
    module = json.loads(go("list", "-m", "-json", MODULE, cwd=HERE))["Dir"]
    for archive in Path(module).glob("rootfs-*.tar.gz"):
        shutil.copyfile(archive, folder / archive.name)


RUNTIME_TOOLS = Suite(
    prepare=_prepare,
    programs=_programs,
    command=lambda folder, program: [str(folder / program)],
    environment=lambda _folder, runtime: {"RUNTIME": str(runtime)},
    status_tells=True,
)
