"""`katapy factory`: a template is made when a sandbox first needs one; this makes it before, lists and removes them.

And the zygote: `serve` is its whole life, `status` shows it with its warm machines.
"""

import json
import os
import time
from typing import Any

from katapy import config
from katapy.cli.creation import signals_as_errors
from katapy.cli.log import write_output
from katapy.cli.parse import Args
from katapy.cli.tabular import table
from katapy.errors import HostError, UsageError
from katapy.factory import maker
from katapy.factory.blueprint import is_stale
from katapy.factory.store import Store, Template
from katapy.hypervisor.drivers import load_driver
from katapy.linux import proc
from katapy.sandbox import template
from katapy.sandbox.facts import host_facts

_LEAST_MIB = 128


def run(args: Args) -> int:
    actions = {"init": init, "status": status, "destroy": destroy, "serve": serve}
    try:
        action = actions[args.id]
    except KeyError:
        raise UsageError(f"unknown action {args.id!r}: choose init, status, destroy or serve") from None
    return action(args, config.load(args.configuration or None))


def init(args: Args, conf: config.Config) -> int:
    """Makes the template for machines of one size, unless it is there; a failure of before does not count."""
    facts = host_facts(conf)
    if reason := template.reason_against(conf, facts):
        raise HostError(f"no templates here: {reason}")
    vcpus, memory_mib = args.vcpus or conf.hypervisor.vcpus, args.memory_mib or conf.hypervisor.memory_mib
    if vcpus < 1 or memory_mib < _LEAST_MIB:
        raise UsageError(f"a machine has 1 vCPU and {_LEAST_MIB} MiB at least")
    wanted = template.blueprint(facts, vcpus, memory_mib, conf)
    store = Store(conf.factory.dir)
    store.forget_failure(wanted.key)
    driver = load_driver(conf.hypervisor.driver)
    with signals_as_errors():
        path = maker.make(store, wanted, driver, conf.factory.keep, conf.timeouts.boot_s, _progress)
    write_output(f"{path}\n")
    return 0


def status(args: Args, conf: config.Config) -> int:
    if args.format not in ("table", "json"):
        raise UsageError("invalid format option")
    store = Store(conf.factory.dir)
    found, failures = store.templates(), store.failures()
    zygote = _zygote(conf)
    if args.format == "json":
        document = {"templates": [_entry(t) for t in found], "failures": failures, "zygote": zygote}
        write_output(json.dumps(document) + "\n")
        return 0
    rows = [("TEMPLATE", "MEMORY", "VCPUS", "ON DISK", "MADE", "LAST USED", "STATE")]
    for t in found:
        entry = _entry(t)
        size = f"{t.size // 2**20} MiB"
        state = "stale" if entry["stale"] else "ready"
        memory = f"{entry['memory_mib']} MiB"
        rows.append((t.key, memory, str(entry["vcpus"]), size, _clock(t.made), _clock(t.used), state))
    rows += [(key, "", "", "", "", "", f"failed: {reason}") for key, reason in failures.items()]
    write_output(table(rows))
    for line in _about(zygote):
        write_output(f"{line}\n")
    return 0


def serve(args: Args, conf: config.Config) -> int:
    """Until SIGTERM or SIGINT."""
    from katapy.supervisor import unneeded

    unneeded.keep_out()  # out of what it forks, too: so before anything else is imported
    from katapy.zygote import daemon

    daemon.serve(lambda: config.load(args.configuration or None))
    return 0


def _zygote(conf: config.Config) -> dict[str, Any]:
    """What it says of itself, with the memory (PSS) of its machines; `running` is false if there is none."""
    from katapy.zygote import client

    try:
        said = client.status(conf)
    except client.Refused as e:
        return {"running": False, "trouble": str(e)}
    if said is None:
        return {"running": False, "trouble": ""}
    for machine in said["pool"]["machines"]:
        machine["kib"] = sum(proc.pss_kib(pid) for pid in proc.family(machine["pid"]))
    return {"running": True, "kib": proc.pss_kib(said["pid"]), **said}


def _about(zygote: dict[str, Any]) -> list[str]:
    """The same for people."""
    if not zygote["running"]:
        return [f"no zygote: {zygote['trouble']}"] if zygote["trouble"] else []
    served, pool = zygote["served"], zygote["pool"]
    lines = [
        f"zygote {zygote['pid']}: {zygote['kib'] // 1024} MiB; {served['warm']} warm machines given,"
        f" {served['forked']} supervisors forked, {served['refused']} requests refused"
    ]
    for machine in pool["machines"]:
        state = f"{machine['kib'] // 1024} MiB" if machine["ready"] else "being made"
        lines.append(f"warm machine of {pool['memory_mib']} MiB: {state}, since {_clock(machine['since'])}")
    if pool["wanted"]:
        memory = sum(m["kib"] for m in pool["machines"]) // 1024
        most = pool["wanted"] * pool["memory_mib"]
        lines.append(
            f"{len(pool['machines'])} of {pool['wanted']} warm machines: {memory} MiB; guests of at most {most} MiB"
        )
    return [*lines, pool["trouble"]] if pool["trouble"] else lines


def destroy(args: Args, conf: config.Config) -> int:
    """Sandboxes that run keep what they were cloned from."""
    for key in Store(conf.factory.dir).destroy():
        write_output(f"{key}\n")
    return 0


def _entry(t: Template) -> dict[str, Any]:
    return {
        "key": t.key,
        "memory_mib": t.description.get("memory_mib"),
        "vcpus": t.description.get("vcpus"),
        "bytes": t.size,
        "made": t.made,
        "used": t.used,
        "stale": is_stale(t.description),
    }


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _progress(words: str) -> None:
    os.write(2, f"{words}\n".encode())
