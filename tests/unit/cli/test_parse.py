"""Flags with the manners of Go's flag package."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.cli.parse import Args, BadUsage, UnknownVerb, parse
from katapy.cli.table import VERBS
from katapy.errors import UsageError


def parsed(line: str) -> Args:
    return parse(line.split(), Args())


@pytest.mark.parametrize(
    "line, expected",
    [
        ("state c1", {"verb": "state", "id": "c1", "root": "/run/katapy"}),
        ("--root /x --log=/l state c1", {"root": "/x", "log": "/l"}),
        ("-root=/x state c1", {"root": "/x"}),
        ("--debug=false state c1", {"debug": False}),
        ("create -b /b --pid-file p c1", {"bundle": "/b", "pid_file": "p", "id": "c1"}),
        ("create c1 --bundle /b", {"bundle": "/b", "id": "c1"}),
        ("delete c1 --force", {"force": True, "id": "c1"}),
        ("delete --force=0 c1", {"force": False}),
        ("run -d --keep c1", {"detach": True, "keep": True, "no_pivot": False}),
        ("exec -e A=1 -e B=2 -t c1 sh -c ls", {"env": ["A=1", "B=2"], "tty": True, "command": ["sh", "-c", "ls"]}),
        ("exec c1 ls -l --env x", {"env": [], "command": ["ls", "-l", "--env", "x"]}),
        ("exec -- c1 -x", {"id": "c1", "command": ["-x"]}),
        ("exec --env=A=b=c c1 x", {"env": ["A=b=c"]}),
        ("exec --preserve-fds 3 c1 x", {"preserve_fds": 3}),
        ("kill -a c1 KILL", {"all": True, "command": ["KILL"]}),
        ("kill c1 -9", {"id": "c1", "command": ["-9"]}),
        ("update -r - c1", {"resources": "-"}),
        ("update --memory-swap -1 c1", {"memory_swap": "-1"}),
        ("update --cpu-shares 5 c1", {"cpu_share": "5"}),
        ("ps c1 -ef", {"command": ["-ef"]}),
        ("events --stats c1", {"stats": True, "interval": "5s"}),
        ("", {"verb": "", "help": False}),
        ("-v", {"version": True}),
        ("help kill", {"verb": "kill", "help": True}),
        ("kill --help", {"verb": "kill", "help": True}),
    ],
)
def test_accepted(line: str, expected: dict[str, object]) -> None:
    args = parsed(line)
    assert {name: getattr(args, name) for name in expected} == expected


@pytest.mark.parametrize(
    "line, message, verb",
    [
        ("--foo", "flag provided but not defined: -foo", ""),
        ("--root", "flag needs an argument: -root", ""),
        ("state -foo c1", "flag provided but not defined: -foo", "state"),
        ("state ---foo c1", "bad flag syntax: ---foo", "state"),
        ("state --=x c1", "bad flag syntax: --=x", "state"),
        ("create --bundle", "flag needs an argument: -bundle", "create"),
        ("exec -t=maybe c1 x", 'invalid boolean value "maybe" for -t: parse error', "exec"),
        ("exec --preserve-fds x c1", 'invalid value "x" for flag -preserve-fds: parse error', "exec"),
        ("exec -it c1 sh", "flag provided but not defined: -it", "exec"),
        ("state", 'katapy: "state" requires exactly 1 argument(s)', "state"),
        ("state a b", 'katapy: "state" requires exactly 1 argument(s)', "state"),
        ("list x", 'katapy: "list" requires exactly 0 argument(s)', "list"),
        ("exec", 'katapy: "exec" requires a minimum of 1 argument(s)', "exec"),
        ("kill", 'katapy: "kill" requires a minimum of 1 argument(s)', "kill"),
        ("kill a b c", 'katapy: "kill" requires a maximum of 2 argument(s)', "kill"),
    ],
)
def test_refused(line: str, message: str, verb: str) -> None:
    with pytest.raises(BadUsage) as caught:
        parsed(line)
    assert (str(caught.value), caught.value.verb, caught.value.exit_status) == (message, verb, 1)


@pytest.mark.parametrize("line", ["foo", "help foo", "--debug st c1"])
def test_unknown_verbs_exit_with_3(line: str) -> None:
    with pytest.raises(UnknownVerb, match=r"No help topic for '(foo|st)'") as caught:
        parsed(line)
    assert caught.value.exit_status == 3


words = st.sampled_from(["-", "--", "-e", "--env=x", "--root", "c1", "", "--=", "-h", "\0", "é", *VERBS]) | st.text()


@given(st.lists(words, max_size=8))
def test_anything_is_parsed_or_a_usage_error(argv: list[str]) -> None:
    try:
        parse(argv, Args())
    except UsageError:
        pass


def test_no_two_flags_of_a_verb_have_the_same_name() -> None:
    for name, verb in VERBS.items():
        names = [n for flag in verb.flags for n in flag.names]
        assert len(names) == len(set(names)), name
