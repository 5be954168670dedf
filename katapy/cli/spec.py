"""`katapy spec`: writes a config.json to start from."""

import os

from katapy import quickjson
from katapy.cli.parse import Args
from katapy.errors import HostError, errno_text
from katapy.oci.default import default_spec

_NAME = "config.json"


def run(args: Args) -> int:
    bundle = args.bundle or "."
    path = os.path.join(bundle, _NAME)
    try:
        with open(path, "x", encoding="utf-8") as f:
            f.write(quickjson.dumps(default_spec(), indent=4) + "\n")
    except FileExistsError as e:
        raise HostError(f"File {_NAME} exists. Remove it first") from e
    except (FileNotFoundError, NotADirectoryError) as e:
        raise HostError(f"chdir {bundle}: {errno_text(e)}") from e
    except OSError as e:
        raise HostError(f"open {path}: {errno_text(e)}") from e
    return 0
