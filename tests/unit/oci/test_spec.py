"""config.json: whatever is in it, it is read or refused with one class of error, and soon."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from katapy.errors import HostError, SpecError
from katapy.oci import spec
from katapy.oci.default import default_spec
from katapy.oci.resources import Resources
from katapy.oci.spec import Bundle, Spec, decode, load_bundle
from katapy.oci.validate import load_process, validate_bundle


def read(data: bytes) -> Spec:
    raw = decode(data, "config.json")
    return spec._convert(raw, Spec)


def write(folder: Path, document: object) -> str:
    (folder / "rootfs").mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(document))
    return str(folder)


def test_a_whole_document(tmp_path: Path) -> None:
    bundle = load_bundle(write(tmp_path, {**default_spec(), "somethingNew": {"a": 1}}))
    assert bundle.path == str(tmp_path)
    assert bundle.spec.process is not None
    assert bundle.spec.process.args == ["sh"]
    assert bundle.raw["somethingNew"] == {"a": 1}
    assert bundle.spec.linux is not None
    assert isinstance(bundle.spec.linux.resources, Resources)


def test_every_member_of_every_struct_is_known_by_its_name_in_the_spec() -> None:
    document = json.loads((Path(__file__).parent / "everything.json").read_text())
    read(json.dumps(document).encode())

    def unknown(struct: Any, raw: Any, path: str) -> list[str]:
        if isinstance(raw, list):
            return [p for i, item in enumerate(raw) for p in unknown(struct[i], item, f"{path}[{i}]")]
        if not isinstance(raw, dict) or isinstance(struct, dict):
            return []
        names = dict(zip(struct.__struct_encode_fields__, struct.__struct_fields__, strict=True))
        missing = [f"{path}.{key}" for key in raw if key not in names]
        return missing + [
            p
            for key, value in raw.items()
            if key in names
            for p in unknown(getattr(struct, names[key]), value, f"{path}.{key}")
        ]

    assert unknown(read(json.dumps(document).encode()), document, "$") == []


def test_null_is_not_there() -> None:
    members = Spec.__struct_encode_fields__
    assert read(json.dumps(dict.fromkeys(members)).encode()) == Spec()


@pytest.mark.parametrize(
    "text, message",
    [
        (b"", "config.json is not JSON"),
        (b"{", "config.json is not JSON"),
        (b"[]", "config.json is not a JSON object"),
        (b"3", "config.json is not a JSON object"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"hostname":"\xff"}', "config.json is not JSON"),
        (b'{"hostname":"\\ud800"}', "config.json is not JSON"),
        (b'{"hostname":1}', "Expected `str | null`, got `int` - at `$.hostname`"),
        (b'{"process":{"args":"sh"}}', "at `$.process.args`"),
        (b'{"process":{"args":["sh",1]}}', "at `$.process.args[1]`"),
        (b'{"process":{"user":{"uid":-1}}}', "at `$.process.user.uid`"),
        (b'{"process":{"user":{"uid":4294967296}}}', "at `$.process.user.uid`"),
        (b'{"process":{"user":{"uid":1e99}}}', "at `$.process.user.uid`"),
        (b'{"linux":{"resources":{"memory":{"limit":9223372036854775808}}}}', "at `$.linux.resources.memory.limit`"),
        (b'{"linux":{"namespaces":{"type":"pid"}}}', "at `$.linux.namespaces`"),
        (b'{"annotations":{"a":1}}', "at `$.annotations[...]`"),
    ],
)
def test_refused(text: bytes, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


names = (
    st.sampled_from(sorted({*Spec.__struct_encode_fields__, "path", "args", "env", "type", "cwd", "namespaces"}))
    | st.text()
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


@given(st.binary() | json_values.map(lambda v: json.dumps(v).encode()))
def test_garbage_is_a_spec_error(data: bytes) -> None:
    try:
        read(data)
    except SpecError:
        pass


@given(json_values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_validation_of_anything_is_a_spec_error(tmp_path: Path, document: object) -> None:
    try:
        raw = decode(json.dumps(document).encode(), "config.json")
        validate_bundle(Bundle(str(tmp_path), spec._convert(raw, Spec), raw))
    except SpecError:
        pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"[" * 50_000_000,
        lambda: b'{"a":' * 10_000_000,
        lambda: b'{"a":' * 100 + b"1" + b"}" * 100,
        lambda: b'{"a":"' + b"x" * 100_000_000,
    ],
    ids=["brackets", "braces", "deep", "long"],
)
def test_hostile_documents_are_refused_soon(make: Any) -> None:
    data = make()
    started = time.monotonic()
    with pytest.raises(SpecError):
        read(data)
    assert time.monotonic() - started < 5


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    with open(tmp_path / "config.json", "wb") as f:
        f.truncate(100 * 1024 * 1024)
    with pytest.raises(SpecError, match="104857600 bytes, at most 16777216"):
        load_bundle(str(tmp_path))


def test_missing_bundles_have_runcs_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match=r"^chdir /nosuch: no such file or directory$"):
        load_bundle("/nosuch")
    with pytest.raises(SpecError, match=r"^JSON specification file config\.json not found$"):
        load_bundle(str(tmp_path))
    with pytest.raises(SpecError, match="not a directory"):
        load_bundle(__file__)
    (tmp_path / "config.json").mkdir()
    with pytest.raises((SpecError, HostError), match="directory"):
        load_bundle(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").rmdir()
    (tmp_path / "config.json").write_text("{}")
    assert load_bundle("").path == os.getcwd()


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(SpecError, match="not JSON"):
        load_bundle(str(tmp_path))


def test_process_documents(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"args": ["a"], "cwd": "/", "extra": 1}))
    assert load_process(str(file)) == {"args": ["a"], "cwd": "/", "extra": 1}
    file.write_text('{"cwd": "/"}')
    with pytest.raises(SpecError, match=r"args must not be empty - at `\$\.args`"):
        load_process(str(file))
    with pytest.raises(SpecError, match="open /nosuch: no such file or directory"):
        load_process("/nosuch")
