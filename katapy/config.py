"""katapy.yaml as a frozen tree. Read once by `create` and `run` (and `check`, `env`); the plan carries what is needed.

`configs/katapy.yaml` is the reference: every setting, its default and why. The defaults below equal it; a test holds
them together. PyYAML is imported only when a file exists. Structs, because ten dataclasses take 13 ms to make.
"""

import os
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from katapy.errors import ConfigError, errno_text

DEFAULT_PATH = "/etc/katapy/katapy.yaml"
ENVIRONMENT = "KATAPY_CONFIG"
FACTORY_ENVIRONMENT = "KATAPY_FACTORY"
"""`off`: no templates for this call. It is the caller's, as the choice of the file is: not in the file's values."""
_MAX_FILE = 1024 * 1024

T = TypeVar("T")


Number = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=1)]


class Image(msgspec.Struct, frozen=True):
    dir: str = "/var/lib/katapy/images/current"


class Hypervisor(msgspec.Struct, frozen=True):
    driver: Literal["qemu"] = "qemu"
    binary: str = "auto"
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    machine: str = "q35"
    cpu: str = "auto"
    vcpus: Number = 1
    memory_mib: Annotated[int, msgspec.Meta(ge=128)] = 512
    max_vcpus: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_memory_mib: Annotated[int, msgspec.Meta(ge=0)] = 0
    kernel_parameters: tuple[str, ...] = ()


class Share(msgspec.Struct, frozen=True):
    type: Literal["auto", "virtiofs", "9p"] = "auto"
    virtiofsd: str = "auto"
    writes: Literal["host", "guest"] = "host"


class Devices(msgspec.Struct, frozen=True):
    block: tuple[str, ...] = ("/dev/*",)
    block_if_privileged: tuple[str, ...] = ()


class Factory(msgspec.Struct, frozen=True):
    templates: Literal["auto", "off"] = "auto"
    dir: str = "/var/lib/katapy/templates"
    keep: Number = 8
    pool: Annotated[int, msgspec.Meta(ge=0)] = 0


class Users(msgspec.Struct, frozen=True):
    first_uid: Number = 1879048192


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds."""

    boot_s: Seconds = 120.0
    request_s: Seconds = 30.0
    kill_s: Seconds = 10.0
    heartbeat_s: Seconds = 10.0


class Annotations(msgspec.Struct, frozen=True):
    allowed: tuple[str, ...] = ()


class Debug(msgspec.Struct, frozen=True):
    console: bool = False
    keep: bool = False


class Config(msgspec.Struct, frozen=True):
    image: Image = Image()
    hypervisor: Hypervisor = Hypervisor()
    share: Share = Share()
    devices: Devices = Devices()
    transport: Literal["auto", "vsock", "serial"] = "auto"
    factory: Factory = Factory()
    users: Users = Users()
    timeouts: Timeouts = Timeouts()
    annotations: Annotations = Annotations()
    debug: Debug = Debug()


def config_path(path: str | None = None) -> str:
    """The file that `load` reads: `path`, else $KATAPY_CONFIG, else the default place; "" if that does not exist."""
    chosen = path or os.environ.get(ENVIRONMENT, "")
    return chosen or (DEFAULT_PATH if os.path.exists(DEFAULT_PATH) else "")


def load(path: str | None = None) -> Config:
    """The configuration. A file that was named must exist. Raises ConfigError: `file: key: reason`."""
    chosen = config_path(path)
    if not chosen:
        return Config()
    try:
        with open(chosen, "rb") as f:
            text = f.read(_MAX_FILE + 1)
    except OSError as e:
        raise ConfigError(f"{chosen}: {errno_text(e)}") from e
    if len(text) > _MAX_FILE:
        raise ConfigError(f"{chosen}: larger than {_MAX_FILE} bytes")
    return parse(text, chosen)


def parse(text: bytes, name: str) -> Config:
    """The configuration in `text`; `name` is what errors call the file."""
    import yaml  # 27 ms, and most hosts have no file

    try:
        document = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise ConfigError(f"{name}: line {line}: {e.problem}") from e
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise ConfigError(f"{name}: {' '.join(str(e).split())}") from e
    return _build(Config, {} if document is None else document, name, "")


def _build(cls: type[T], document: object, name: str, prefix: str) -> T:
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: {prefix.rstrip('.') or 'the file'}: expected a mapping, found {_found(document)}")
    hints = get_type_hints(cls, include_extras=True)
    for key in document:
        if key not in hints:
            raise ConfigError(f"{name}: {prefix}{key}: unknown setting (known: {', '.join(sorted(hints))})")
    return cls(**{k: _value(hints[k], v, name, prefix + k) for k, v in document.items()})


def _value(kind: Any, value: object, name: str, key: str) -> object:
    if get_origin(kind) is Annotated:
        kind, meta = get_args(kind)
        return _scalar(kind, value, name, key, meta.ge)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _build(kind, {} if value is None else value, name, key + ".")
    if get_origin(kind) is Literal:
        if isinstance(value, bool):
            value = "on" if value else "off"  # what YAML takes for a boolean
        if value not in get_args(kind):
            raise ConfigError(f"{name}: {key}: expected one of {', '.join(get_args(kind))}, found {_found(value)}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise ConfigError(f"{name}: {key}: expected a list of strings, found {_found(value)}")
        return tuple(value)
    return _scalar(kind, value, name, key)


def _scalar(kind: type, value: object, name: str, key: str, minimum: float | None = None) -> object:
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool) or value == "":
        wanted = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise ConfigError(f"{name}: {key}: expected {wanted}, found {_found(value)}")
    # "not >=" also refuses .nan; .inf would be a wait without an end
    if minimum is not None and isinstance(value, (int, float)) and not minimum <= value < 2**32:
        raise ConfigError(f"{name}: {key}: must be at least {minimum}, found {value}")
    return float(value) if kind is float and isinstance(value, int) else value


def _found(value: object) -> str:
    return f"{value!r:.60}" if isinstance(value, (str, int, float)) else type(value).__name__
