"""Every error katapy raises on purpose, by what the caller can do about it. Shared by host and guest.

    KatapyError                  exit status 1; one line, lower case, names the object and the remedy
     +- UsageError               the command line is wrong
     +- SpecError                config.json or process.json is wrong; carries the JSON path
     +- ConfigError              katapy.yaml is wrong; carries file and key
     +- Unsupported              understood, and refused
     +- NotFound                 no such container or exec
     +- AlreadyExists            the id is taken
     +- WrongStatus              the verb does not fit the container's status
     +- HostError                the host said no (mount, cgroup, spawn ...)
     +- HypervisorError          QEMU or the guest died, or never came up; carries log tails
     +- AgentError               the agent refused; its message is bounded and stripped of control characters
     +- Timeout                  a named wait passed its deadline
     +- Interrupted              somebody ended this call by a signal

An error crosses the control socket as {"kind": class name, "message": text}; `from_wire` makes it again.
Standard library only: hot verbs import this module.
"""

import os


class KatapyError(Exception):
    """Base of the tree; `str()` is the one line the user sees."""

    exit_status = 1

    @property
    def kind(self) -> str:
        return type(self).__name__


class UsageError(KatapyError):
    """The command line is wrong."""


class SpecError(KatapyError):
    """A spec document is wrong. `path` is a JSON path such as `$.process.args`, or empty."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{message} - at `{path}`" if path else message)
        self.path = path


class ConfigError(KatapyError):
    """katapy.yaml is wrong."""


class Unsupported(KatapyError):
    """A valid request that katapy does not serve."""


class NotFound(KatapyError):
    """No such container or exec."""


class AlreadyExists(KatapyError):
    """The id is taken."""


class WrongStatus(KatapyError):
    """The verb does not fit the status the container is in."""


class HostError(KatapyError):
    """The host refused something."""


class HypervisorError(KatapyError):
    """The virtual machine did not come up, or is gone."""


class AgentError(KatapyError):
    """The agent in the guest refused a request."""


class Timeout(KatapyError):
    """A wait that has a name passed its deadline (seconds)."""

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message if seconds is None else f"timed out after {seconds:g} s: {message}")


class Interrupted(KatapyError):
    """Somebody has ended this call: that says nothing about what it was doing."""


def errno_text(e: OSError) -> str:
    """What the kernel's error number means, fit for the end of a message: "no such file or directory"."""
    text = os.strerror(e.errno) if e.errno else str(e)
    return text[:1].lower() + text[1:]


def _by_name(cls: type[KatapyError]) -> dict[str, type[KatapyError]]:
    found = {cls.__name__: cls}
    for sub in cls.__subclasses__():
        found.update(_by_name(sub))
    return found


KINDS = _by_name(KatapyError)


def from_wire(kind: str, message: str) -> KatapyError:
    """The error that `kind` and `message` describe; an unknown kind becomes a plain KatapyError."""
    return KINDS.get(kind, KatapyError)(message)
