"""What came of checks: for one loss a table of its checks, for several a table of the losses; or plain values."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from lossbench.check.contract import Result, Status

STYLES = {Status.PASSED: "green", Status.FAILED: "bold red", Status.KNOWN: "yellow", Status.NOT_APPLICABLE: "dim"}


@dataclass(frozen=True)
class Verdict:
    """One loss: its results, or why it was skipped."""

    loss: str
    results: tuple[Result, ...] = ()
    skipped: str = ""

    @property
    def failed(self) -> list[Result]:
        """The checks that it fails."""
        return [r for r in self.results if r.status is Status.FAILED]

    @property
    def flaws(self) -> list[Result]:
        """The checks that it fails as it says itself."""
        return [r for r in self.results if r.status is Status.KNOWN]

    @property
    def seconds(self) -> float:
        """How long all of them took."""
        return sum(r.seconds for r in self.results)

    def count(self, status: Status) -> int:
        """How many checks ended so."""
        return sum(r.status is status for r in self.results)

    def told(self, check: str) -> str:
        """The message of one check; empty if it was not run."""
        return next((r.message for r in self.results if r.check == check), "")


def render_checks(verdict: Verdict) -> RenderableType:
    """All checks of one loss. A failure also says what is demanded."""
    table = _table("check", "verdict", "ms", "what there is to say")
    told = set[str]()
    for r in verdict.results:
        message = f"{r.message}\nwanted: {r.demand}" if r.status is Status.FAILED else r.message
        message = "the same" if r.status is Status.FAILED and r.message in told else message
        told.add(r.message)
        status = Text(r.status, style=STYLES[r.status])
        table.add_row(Text(r.check), status, Text(f"{1000 * r.seconds:.0f}"), Text(message))
    return Group(table, Text(""), Text(_sentence(verdict)))


def render_verdicts(verdicts: Sequence[Verdict]) -> RenderableType:
    """A row per loss, with the checks that it fails or why it was skipped."""
    table = _table("loss", "verdict", "ms", "what there is to say")
    for v in verdicts:
        status = _status(v)
        word = "skipped" if v.skipped else str(status)
        table.add_row(Text(v.loss), Text(word, style=STYLES[status]), Text(_milliseconds(v)), Text(_row(v)))
    return Group(table, Text(""), Text(_total(verdicts)))


def _status(verdict: Verdict) -> Status:
    if verdict.skipped:
        return Status.NOT_APPLICABLE
    return Status.FAILED if verdict.failed else Status.KNOWN if verdict.flaws else Status.PASSED


def convert_verdicts(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The same as a JSON document."""
    ran = [v for v in verdicts if not v.skipped]
    return {
        "passed": not any(v.failed for v in ran),
        "seconds": sum(v.seconds for v in ran),
        "losses": [
            {"loss": v.loss, "passed": not v.failed, "seconds": v.seconds, "checks": [asdict(r) for r in v.results]}
            for v in ran
        ],
        "skipped": [{"loss": v.loss, "reason": v.skipped} for v in verdicts if v.skipped],
    }


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        right, last = heading == "ms", heading == headings[-1]
        justify: JustifyMethod = "right" if right else "left"
        table.add_column(Text(heading, style="bold"), overflow="fold", justify=justify, no_wrap=not last)
    return table


def _sentence(verdict: Verdict) -> str:
    counts = {status: verdict.count(status) for status in Status}
    told = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    return f"{verdict.loss}: {told}, in {verdict.seconds:.1f} s."


def _row(verdict: Verdict) -> str:
    if verdict.skipped:
        return verdict.skipped
    if bad := verdict.failed or verdict.flaws:
        return "\n".join(f"{r.check}: {r.message}" for r in bad)
    return f"{verdict.told('route_through_a_stack')}, {verdict.told('time_per_element')}"


def _milliseconds(verdict: Verdict) -> str:
    return "" if verdict.skipped else f"{1000 * verdict.seconds:.0f}"


def _total(verdicts: Sequence[Verdict]) -> str:
    ran = [v for v in verdicts if not v.skipped]
    bad = [v.loss for v in ran if v.failed]
    seconds = sum(v.seconds for v in verdicts)
    names = f" ({', '.join(bad)})" if bad else ""
    n_known = sum(_status(v) is Status.KNOWN for v in ran)
    known = f", {n_known} of them with known flaws" if n_known else ""
    skipped = f", {len(verdicts) - len(ran)} skipped" if len(ran) < len(verdicts) else ""
    return (
        f"{len(ran) - len(bad)} of {len(ran)} losses pass{known}, {len(bad)} fail{names}{skipped}, in {seconds:.1f} s."
    )
