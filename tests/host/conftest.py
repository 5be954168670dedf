"""The tier host: needs root, boots nothing."""

from framework.fixtures import (
    bundle,
    no_leaks,
    no_leaks_of_the_module,
    runtime,
    runtime_path,
    scope,
    scratch,
)

__all__ = ["bundle", "no_leaks", "no_leaks_of_the_module", "runtime", "runtime_path", "scope", "scratch"]
