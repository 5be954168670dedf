"""Series of figures, their medians and spreads, and the budgets they are held against. Pure."""

import os
import statistics
from dataclasses import dataclass, field
from typing import Any

CORES = len(os.sched_getaffinity(0))


@dataclass(slots=True)
class Series:
    """Figures of one kind, in `unit`."""

    who: str
    what: str
    unit: str
    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        self.values.append(value)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def p90(self) -> float:
        return sorted(self.values)[min(len(self.values) - 1, round(0.9 * (len(self.values) - 1)))]


@dataclass(frozen=True, slots=True)
class Budget:
    """A promise: the median of (`who`, `what`), or its ratio to the sum of the medians in `over`, against `limit`."""

    text: str
    who: str
    what: str
    limit: float
    over: tuple[tuple[str, str], ...] = ()
    at_least: bool = False


BUDGETS = (
    Budget("state <= 2.5 x bare python", "katapy", "state", 2.5, (("bare python", "-I -S -c pass"),)),
    Budget(
        "exec true <= 3 x (crun exec in the guest + one unary call)",
        "katapy",
        "exec true",
        3,
        (("katapy", "  of it: crun exec"), ("katapy", "  beside it: one unary call")),
    ),
    Budget("supervisor <= 30 MB", "katapy", "PSS of supervisor", 30),
    Budget("stand-in <= 4 MB", "katapy", "PSS of stand-in", 4),
    Budget("own CPU of create <= 0.4 s", "katapy", "CPU of create besides QEMU", 0.4),
    Budget("stdout >= 20 MB/s (TCG)", "katapy", "stdout", 20, at_least=True),
    Budget("first answer: template <= 0.10 x cold", "template", "first answer", 0.10, (("cold", "first answer"),)),
    Budget("first answer: warm <= 0.05 x cold", "warm", "first answer", 0.05, (("cold", "first answer"),)),
    Budget("run true: template <= 0.25 x cold", "template", "run to exit", 0.25, (("cold", "run to exit"),)),
    Budget("10 at once <= 1.2 x 10/cores x one", "template", "10 at once", 12 / CORES, (("template", "run to exit"),)),
    Budget("drift in a row <= 10 %", "template", "drift of the last fifth", 10),
    Budget(
        "PSS of one more pod <= 0.5 x cold", "template", "PSS of one more pod", 0.5, (("cold", "PSS per pod of 1"),)
    ),
    Budget("PSS of one more pod <= 100 MB", "template", "PSS of one more pod", 100),
)


class Report:
    """Everything measured in one run. `host` is what the figures depend on, `machines` the most important of it."""

    def __init__(self, host: dict[str, Any], machines: str) -> None:
        self.host = host
        self.machines = machines
        self._series: dict[tuple[str, str], Series] = {}

    def series(self, who: str, what: str, unit: str) -> Series:
        """The series of that name, made when it is first asked for."""
        return self._series.setdefault((who, what), Series(who, what, unit))

    def _measured(self) -> list[Series]:
        return [s for s in self._series.values() if s.values]

    def of(self, who: str) -> list[Series]:
        """What was measured of one of them, in order."""
        return [s for s in self._measured() if s.who == who]

    def markdown(self) -> str:
        """One table, a column for each of those that were compared; then the budgets."""
        names = list(dict.fromkeys(s.who for s in self._measured()))
        whats = list(dict.fromkeys((s.what.strip(), s.unit) for s in self._measured()))
        found = {(s.who, s.what.strip()): f"{s.median:.3g}" for s in self._measured()}
        lines = ["| median | | " + " | ".join(names) + " |", "|---|---" + "|---" * len(names) + "|"]
        for what, unit in whats:
            cells = " | ".join(found.get((name, what), "") for name in names)
            lines.append(f"| {what} | {unit} | {cells} |")
        lines += ["", "| budget | figure | |", "|---|---|---|"]
        lines += [f"| {text} | {value:.2f} | {'kept' if ok else '**missed**'} |" for text, value, ok in self.budgets()]
        return "\n".join((*lines, "", self.machines)) + "\n"

    def table(self) -> str:
        lines = [f"{'':<12} {'':<34} {'median':>10} {'min':>10} {'p90':>10}      n"]
        for s in self._measured():
            figures = f"{s.median:>10.3f} {min(s.values):>10.3f} {s.p90:>10.3f}"
            lines.append(f"{s.who:<12} {s.what:<34} {figures} {s.unit:<5} {len(s.values)}")
        lines += ["", "budgets of the design (medians of this run):"]
        lines += [f"  {'kept  ' if ok else 'MISSED'} {value:8.2f}  {text}" for text, value, ok in self.budgets()]
        lines += ["", self.machines]
        return "\n".join(lines)

    def budgets(self) -> list[tuple[str, float, bool]]:
        """(text, figure, kept) of every budget whose series were measured."""
        found = []
        for budget in BUDGETS:
            series = self._series.get((budget.who, budget.what))
            over = [self._series.get(name) for name in budget.over]
            if series is None or not series.values or not all(o is not None and o.values for o in over):
                continue
            value = series.median / (sum(o.median for o in over if o is not None) if over else 1)
            found.append((budget.text, value, value >= budget.limit if budget.at_least else value <= budget.limit))
        return found

    def document(self) -> dict[str, object]:
        return {
            "version": 1,
            "host": self.host,
            "series": [
                {"who": s.who, "what": s.what.strip(), "unit": s.unit, "median": s.median, "values": s.values}
                for s in self._measured()
            ],
            "budgets": [{"text": t, "value": v, "kept": ok} for t, v, ok in self.budgets()],
        }
