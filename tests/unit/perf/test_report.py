"""The scoreboard's table and plots, from figures that are made up."""

from xml.etree import ElementTree

from perf import starts
from perf.chart import stacked_bars
from perf.report import Report


def report() -> Report:
    made = Report({}, "machines: tcg")
    for name, seconds in (("cold", 10.0), ("template", 0.5)):
        made.series(name, "first answer", "s").add(seconds)
        made.series(name, "run to exit", "s").add(seconds + 1)
        made.series(name, "  phase: qemu", "s").add(seconds / 2)
        made.series(name, "PSS per pod of 1: QEMU", "MB").add(100 * seconds)
    return made


def test_a_column_for_each_and_the_budgets() -> None:
    lines = report().markdown().splitlines()
    assert lines[0] == "| median | | cold | template |"
    assert "| first answer | s | 10 | 0.5 |" in lines
    assert "| first answer: template <= 0.10 x cold | 0.05 | kept |" in lines
    assert lines[-1] == report().table().splitlines()[-1] == "machines: tcg"


def test_plots_are_svg() -> None:
    for text in starts.charts(report()).values():
        assert ElementTree.fromstring(text).tag.endswith("svg")


def test_lengths_are_in_proportion_and_names_escaped() -> None:
    root = ElementTree.fromstring(stacked_bars("<>", "s", [("one", [("a&b", 1.0)]), ("two", [("a&b", 2.0)])]))
    bars = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.get("height") == "24"]
    assert [float(r.get("width", "0")) for r in bars] == [310.0, 620.0]
    assert ElementTree.fromstring(stacked_bars("nothing", "s", [])).tag.endswith("svg")
