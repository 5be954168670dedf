"""`katapy features`: the runtime-spec's features document. Engines run it at their start: no probing."""

from katapy import __version__, quickjson
from katapy.cli.log import write_output
from katapy.cli.parse import Args
from katapy.oci.features import features


def run(args: Args) -> int:
    write_output(quickjson.dumps(features(__version__), indent=4) + "\n")
    return 0
