"""`katapy state`: the OCI state and runc's additions, from state.json alone: no process needs to be alive for it."""

from katapy import quickjson
from katapy.cli.log import write_output
from katapy.cli.parse import Args
from katapy.sandbox import store


def run(args: Args) -> int:
    write_output(quickjson.dumps(document(store.live_status(args.root, args.id)), indent=2))
    return 0


def document(state: store.State, owner: str = "") -> dict[str, object]:
    """In runc's order: go-runc and podman decode it, people read it."""
    shown: dict[str, object] = {
        "ociVersion": state.oci_version,
        "id": state.id,
        "pid": state.pid,
        "status": state.status,
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": state.created,
    }
    if state.annotations:
        shown["annotations"] = state.annotations
    shown["owner"] = owner
    return shown
