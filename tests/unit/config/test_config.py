"""katapy.yaml: the file is the reference, defaults equal it, errors name file, key and reason."""

import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy import config
from katapy.errors import ConfigError

REFERENCE = Path(__file__).parents[3] / "configs" / "katapy.yaml"


def keys(value: object, prefix: str = "") -> set[str]:
    items = value.items() if isinstance(value, dict) else msgspec.to_builtins(value).items()
    found: set[str] = set()
    for key, inner in items:
        found |= keys(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {prefix + key}
    return found


def test_defaults_equal_the_reference_file() -> None:
    import yaml

    assert config.parse(REFERENCE.read_bytes(), "reference") == config.Config()
    assert keys(yaml.safe_load(REFERENCE.read_text())) == keys(config.Config())


def test_without_a_file_yaml_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KATAPY_CONFIG", raising=False)
    monkeypatch.setattr(config, "DEFAULT_PATH", "/nosuch/katapy.yaml")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert config.load() == config.Config()


def test_the_environment_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "k.yaml"
    file.write_text("timeouts: {boot_s: 7}\nhypervisor:\n  kernel_parameters: [a=b, c]\n")
    monkeypatch.setenv("KATAPY_CONFIG", str(file))
    loaded = config.load()
    assert loaded.timeouts == config.Timeouts(boot_s=7.0)
    assert isinstance(loaded.timeouts.boot_s, float)
    assert loaded.hypervisor.kernel_parameters == ("a=b", "c")
    monkeypatch.setenv("KATAPY_CONFIG", "/nosuch")
    with pytest.raises(ConfigError, match=r"^/nosuch: no such file or directory$"):
        config.load()


def test_empty_sections_are_defaults() -> None:
    assert config.parse(b"", "f") == config.parse(b"image:\ntimeouts:\n", "f") == config.Config()


@pytest.mark.parametrize(
    "text, message",
    [
        ("hypervisor: {vcpu: 1}", "f: hypervisor.vcpu: unknown setting (known: accelerator, binary,"),
        ("foo: 1", "f: foo: unknown setting"),
        ("hypervisor: {vcpus: '1'}", "f: hypervisor.vcpus: expected a whole number, found '1'"),
        ("hypervisor: {vcpus: true}", "f: hypervisor.vcpus: expected a whole number, found True"),
        ("hypervisor: {vcpus: 0}", "f: hypervisor.vcpus: must be at least 1, found 0"),
        ("hypervisor: {accelerator: xen}", "f: hypervisor.accelerator: expected one of auto, kvm, tcg, found 'xen'"),
        ("hypervisor: {accelerator: []}", "f: hypervisor.accelerator: expected one of auto, kvm, tcg, found list"),
        ("hypervisor: {kernel_parameters: [1]}", "f: hypervisor.kernel_parameters: expected a list of strings"),
        ("hypervisor: 3", "f: hypervisor: expected a mapping, found 3"),
        ("- a", "f: the file: expected a mapping, found list"),
        ("timeouts: {boot_s: .nan}", "f: timeouts.boot_s: must be at least 1"),
        ("timeouts: {boot_s: .inf}", "f: timeouts.boot_s: must be at least 1"),
        ("debug: {console: 1}", "f: debug.console: expected true or false, found 1"),
        ("image: {dir: ''}", "f: image.dir: expected a string, found ''"),
        ("image: [", "f: line "),
        ("transport: \0", "f: "),
    ],
)
def test_errors_name_file_key_and_reason(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text.encode(), "f")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_off_is_a_word() -> None:
    """To YAML it is a boolean."""
    assert config.parse(b"factory: {templates: off}", "f").factory.templates == "off"


@given(st.binary() | st.text().map(str.encode))
def test_garbage_is_a_config_error(text: bytes) -> None:
    try:
        config.parse(text, "f")
    except ConfigError:
        pass


def test_what_is_no_yaml_is_told_by_its_line() -> None:
    with pytest.raises(ConfigError) as raised:
        config.parse(b"debug:\n  keep: [true\n", "katapy.yaml")
    assert str(raised.value) == "katapy.yaml: line 3: did not find expected ',' or ']'"
