"""Configurations that tests write: on top of this host's own, which in a test host has the deadlines of slow guests."""

from pathlib import Path
from typing import Any

import yaml

from katapy import config


def write_settings(path: Path, **sections: dict[str, Any]) -> Path:
    """Writes the configuration that holds now to `path`, with these values in its sections. Returns `path`."""
    found = config.config_path()
    document = (yaml.safe_load(Path(found).read_text()) if found else None) or {}
    for name, values in sections.items():
        document[name] = {**(document.get(name) or {}), **values}
    path.write_text(yaml.safe_dump(document))
    return path
