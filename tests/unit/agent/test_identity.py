"""What a template checks, and what a clone is given."""

import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katapy.agent.identity import format_uuid
from katapy.agent.rehearsal import check_kernel
from katapy.errors import AgentError


@given(st.binary(min_size=16, max_size=16))
def test_a_boot_id_is_a_random_uuid(data: bytes) -> None:
    found = uuid.UUID(format_uuid(data))
    assert (found.version, str(found)) == (4, format_uuid(data))
    assert found == uuid.UUID(bytes=data, version=4)


def test_a_tainted_kernel_is_no_template(tmp_path: Path) -> None:
    (tmp_path / "tainted").write_text("0\n")
    check_kernel(str(tmp_path / "tainted"))
    (tmp_path / "tainted").write_text("512\n")
    with pytest.raises(AgentError, match=r"its kernel is tainted \(512\)"):
        check_kernel(str(tmp_path / "tainted"))
