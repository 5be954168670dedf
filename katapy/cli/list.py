"""`katapy list`: all containers below --root, as a table, as JSON, or their ids."""

from katapy import quickjson
from katapy.cli.log import Log, write_output
from katapy.cli.parse import Args
from katapy.cli.state import document
from katapy.cli.tabular import table
from katapy.errors import KatapyError, NotFound, UsageError
from katapy.sandbox import store

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def run(args: Args) -> int:
    if args.format not in ("table", "json"):
        raise UsageError("invalid format option")
    if args.quiet:
        write_output("".join(f"{id}\n" for id in store.list_ids(args.root)))
        return 0
    states = _states(args.root, args.log)
    if args.format == "json":
        documents = [document(state, _owner(state.owner_uid)) for state in states]
        write_output(quickjson.dumps(documents or None) + "\n")
    else:
        rows = [(s.id, str(s.pid), s.status, s.bundle, s.created, _owner(s.owner_uid)) for s in states]
        write_output(table([_COLUMNS, *rows]))
    return 0


def _states(root: str, log: Log) -> list[store.State]:
    """A container that goes away meanwhile is left out, a damaged one is warned of."""
    states = []
    for id in store.list_ids(root):
        try:
            states.append(store.live_status(root, id))
        except NotFound:
            continue
        except KatapyError as e:
            log.warning(f"load container {id}: {e}")
    return states


def _owner(uid: int) -> str:
    if uid == 0:
        return "root"
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
