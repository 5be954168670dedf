"""The State document of the runtime-spec: what hooks read. Pure; runs in the CLI."""


def state_document(
    *, oci_version: str, id: str, pid: int, status: str, bundle: str, annotations: dict[str, str]
) -> dict[str, object]:
    """pid: on the host; 0 when stopped. Empty annotations are left out."""
    document: dict[str, object] = {
        "ociVersion": oci_version,
        "id": id,
        "pid": pid,
        "status": status,
        "bundle": bundle,
    }
    if annotations:
        document["annotations"] = annotations
    return document
