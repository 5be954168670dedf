"""wait_for: gives the value, or names what it waited for."""

import itertools

import pytest
from framework.wait import wait_for


def test_gives_the_first_true_value() -> None:
    values = itertools.count()
    assert wait_for("a number", lambda: next(values)) == 1


def test_names_what_never_came() -> None:
    with pytest.raises(AssertionError, match="in vain: the moon"):
        wait_for("the moon", lambda: False, 0.05)
