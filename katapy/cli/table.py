"""The command line's surface as data: every verb, every flag, as runc has them. Parser and help read it.

Not argparse: engines rely on the manners of Go's flag package (one or two dashes, no abbreviations, no joined short
flags, its error texts), which argparse has not; and its import alone costs as much as the interpreter.
"""

BOOL, TEXT, LIST, NUMBER, DURATION = "bool", "text", "list", "number", "duration"


class Flag:
    """`names`: the long one first. The value's attribute is the long name with underscores.

    A duration's value is its text, checked.

    refused: why a value is not served, for flags that exist only so that they can be refused clearly.
    """

    __slots__ = ("default", "help", "kind", "names", "refused")

    def __init__(self, names: str, kind: str, help: str, default: object = None, refused: str = "") -> None:
        self.refused = refused
        self.names = tuple(names.split())
        self.kind = kind
        self.help = help
        self.default = (
            default if default is not None else {BOOL: False, TEXT: "", LIST: (), NUMBER: 0, DURATION: "0"}[kind]
        )

    @property
    def attribute(self) -> str:
        return self.names[0].replace("-", "_")


class Verb:
    """`least` and `most` bound the arguments (most None: any number); `operands` names them in the usage line.

    interleaved: flags may follow arguments. prefix: what failures start with. failure: exit status of failures.
    """

    __slots__ = ("failure", "flags", "hidden", "interleaved", "least", "most", "operands", "prefix", "summary")

    def __init__(
        self,
        summary: str,
        operands: str = "<container-id>",
        flags: tuple[Flag, ...] = (),
        least: int = 1,
        most: int | None = 1,
        interleaved: bool = True,
        prefix: str = "",
        failure: int = 1,
        hidden: bool = False,
    ) -> None:
        self.summary = summary
        self.operands = operands
        self.flags = flags
        self.least = least
        self.most = most
        self.interleaved = interleaved
        self.prefix = prefix
        self.failure = failure
        self.hidden = hidden


GLOBAL_FLAGS = (
    Flag("debug", BOOL, "log debug messages, and tracebacks of errors"),
    Flag("log", TEXT, "append log records to this file (default: standard error)"),
    Flag("log-format", TEXT, "format of log records: text or json", "text"),
    Flag("root", TEXT, "directory of the containers' state; should be on tmpfs", "/run/katapy"),
    Flag("configuration", TEXT, "configuration file (default: $KATAPY_CONFIG, then /etc/katapy/katapy.yaml)"),
    Flag("systemd-cgroup", BOOL, "a scope of systemd is the container's cgroup; cgroupsPath is slice:prefix:name"),
    Flag("cgroup-manager", TEXT, "crun's way to say it: cgroupfs or systemd", "cgroupfs"),
    Flag("rootless", TEXT, "must not be true: katapy runs as root", "auto"),
    Flag("criu", TEXT, "ignored: there is no checkpoint"),
    Flag("help h", BOOL, "show help"),
    Flag("version v", BOOL, "print the version"),
)

_PRESERVE_FDS = Flag("preserve-fds", NUMBER, "must be 0", refused="descriptors of the host can't enter the guest")
_PIDFD_SOCKET = Flag("pidfd-socket", TEXT, "not supported", refused="the stand-in's pid is in --pid-file")
_CREATE = (
    Flag("bundle b", TEXT, "directory of the bundle (default: the working directory)"),
    Flag("config f", TEXT, "name of the spec in the bundle", "config.json"),
    Flag("console-socket", TEXT, "unix socket that gets the terminal's master descriptor"),
    Flag("pid-file", TEXT, "file that gets the process id"),
    Flag("no-pivot", BOOL, "accepted; the guest always pivots"),
    Flag("no-new-keyring", BOOL, "accepted; the guest's keyrings are its own"),
    _PRESERVE_FDS,
    _PIDFD_SOCKET,
)
_FORMAT = Flag("format f", TEXT, "table or json", "table")

VERBS: dict[str, Verb] = {
    "create": Verb("create a container", flags=_CREATE, prefix="katapy create failed: "),
    "run": Verb(
        "create and start a container, wait for it, delete it",
        flags=(
            *_CREATE,
            Flag("detach d", BOOL, "do not wait for the container"),
            Flag("keep", BOOL, "do not delete the container when it has ended"),
            Flag("no-subreaper", BOOL, "accepted, without effect"),
            Flag("timings", BOOL, "print the milestones of the start on standard error"),
        ),
        prefix="katapy run failed: ",
    ),
    "start": Verb("start a created container"),
    "exec": Verb(
        "run another process in a container",
        "<container-id> <command> [arguments]  |  --process FILE <container-id>",
        (
            Flag("console-socket", TEXT, "unix socket that gets the terminal's master descriptor"),
            Flag("cwd", TEXT, "working directory in the container"),
            Flag("env e", LIST, "set an environment variable: NAME=VALUE"),
            Flag("tty t", BOOL, "allocate a terminal"),
            Flag("user u", TEXT, "user: UID[:GID]"),
            Flag("additional-gids g", LIST, "one more group id"),
            Flag("process p", TEXT, "file with the process object"),
            Flag("detach d", BOOL, "do not wait for the process"),
            Flag("pid-file", TEXT, "file that gets the process id"),
            Flag("process-label", TEXT, "not supported", refused="the guest has no SELinux"),
            Flag("apparmor", TEXT, "not supported", refused="the guest has no AppArmor"),
            Flag("no-new-privs", BOOL, "the process can't gain privileges"),
            Flag("cap c", LIST, "add a capability"),
            _PRESERVE_FDS,
            Flag("cgroup", TEXT, "sub-cgroup of the container: PATH"),
            Flag("ignore-paused", BOOL, "in a paused container: wait until it is resumed"),
            Flag("timings", BOOL, "print what took how long on standard error"),
            _PIDFD_SOCKET,
        ),
        most=None,
        interleaved=False,
        prefix="exec failed: ",
        failure=255,
    ),
    "kill": Verb(
        "send a signal to a container's process (SIGTERM unless named)",
        "<container-id> [signal]",
        (Flag("all a", BOOL, "send it to all processes of the container"),),
        most=2,
        interleaved=False,
    ),
    "delete": Verb(
        "delete a stopped container",
        flags=(Flag("force f", BOOL, "also one that runs, and no error if there is none"),),
    ),
    "state": Verb("print a container's state"),
    "list": Verb("list containers", "", (_FORMAT, Flag("quiet q", BOOL, "print ids only")), least=0, most=0),
    "ps": Verb("list a container's processes", "<container-id> [-ef]", (_FORMAT,), most=None, interleaved=False),
    "pause": Verb("suspend a container's processes"),
    "resume": Verb("resume a container's processes"),
    "events": Verb(
        "print a container's statistics and out-of-memory events",
        flags=(
            Flag("interval", DURATION, "time between two statistics", "5s"),
            Flag("stats", BOOL, "print the statistics once"),
        ),
    ),
    "update": Verb(
        "change a container's limits",
        flags=(
            Flag("resources r", TEXT, "file with a resources object, - for standard input; then no other flag counts"),
            Flag("blkio-weight", TEXT, "weight of block I/O, 10 to 1000"),
            Flag("cpu-period", TEXT, "period of the quota, microseconds; 0: default"),
            Flag("cpu-quota", TEXT, "CPU time in a period, microseconds"),
            Flag("cpu-burst", TEXT, "CPU time that may be saved up, microseconds"),
            Flag("cpu-share cpu-shares", TEXT, "relative weight of CPU time"),
            Flag("cpu-rt-period", TEXT, "period of realtime scheduling, microseconds"),
            Flag("cpu-rt-runtime", TEXT, "realtime CPU time in a period, microseconds"),
            Flag("cpuset-cpus", TEXT, "CPUs to use"),
            Flag("cpuset-mems", TEXT, "memory nodes to use"),
            Flag("memory", TEXT, "limit of memory: bytes, or with k, m, g"),
            Flag("memory-reservation", TEXT, "soft limit of memory: bytes, or with k, m, g"),
            Flag("memory-swap", TEXT, "limit of memory and swap: bytes, or with k, m, g; -1: none"),
            Flag("kernel-memory", TEXT, "accepted, without effect"),
            Flag("kernel-memory-tcp", TEXT, "accepted, without effect"),
            Flag("pids-limit", TEXT, "limit of processes; -1: none"),
            Flag("cpu-idle", TEXT, "1: SCHED_IDLE for the whole container"),
            Flag("l3-cache-schema", TEXT, "not supported", refused="the guest has no Intel RDT"),
            Flag("mem-bw-schema", TEXT, "not supported", refused="the guest has no Intel RDT"),
        ),
    ),
    "spec": Verb(
        "write a config.json to start from",
        "",
        (
            Flag("bundle b", TEXT, "directory to write it to (default: the working directory)"),
            Flag("rootless", BOOL, "not supported", refused="katapy runs as root"),
        ),
        least=0,
        most=0,
    ),
    "features": Verb("print what katapy supports", "", least=0, most=0),
    "factory": Verb(
        "make (init), show (status) or remove (destroy) the templates that machines are cloned of; serve: be the "
        "zygote, which forks supervisors and keeps machines warm",
        "init | status | destroy | serve",
        (
            Flag("vcpus", NUMBER, "init: size of the machines (default: hypervisor.vcpus)"),
            Flag("memory-mib", NUMBER, "init: size of the machines (default: hypervisor.memory_mib)"),
            _FORMAT,
        ),
        prefix="katapy factory failed: ",
    ),
    "check": Verb("tell whether this host is ready, and why not", "", least=0, most=0),
    "env": Verb("print paths, versions and settings", "", (Flag("json", BOOL, "as JSON"),), least=0, most=0),
    "checkpoint": Verb("not supported", most=None, interleaved=False, least=0, hidden=True),
    "restore": Verb("not supported", most=None, interleaved=False, least=0, hidden=True),
}
