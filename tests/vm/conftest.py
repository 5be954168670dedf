"""The tier vm: the runtime's command line against real machines. A boot costs ten seconds: share containers."""

from framework.fixtures import (
    bundle,
    module_bundle,
    module_runtime,
    no_leaks,
    no_leaks_of_the_module,
    running,
    runtime,
    runtime_path,
    scope,
    scratch,
)

__all__ = [
    "bundle",
    "module_bundle",
    "module_runtime",
    "no_leaks",
    "no_leaks_of_the_module",
    "running",
    "runtime",
    "runtime_path",
    "scope",
    "scratch",
]
