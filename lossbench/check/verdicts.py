"""Verdicts on losses: a table of the checks of one, a table of several losses, or plain values for JSON."""

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
    """The results of one loss, or the reason why it was skipped."""

    loss: str
    results: tuple[Result, ...] = ()
    skipped: str = ""

    @property
    def failed(self) -> list[Result]:
        """The failed checks."""
        return [r for r in self.results if r.status is Status.FAILED]

    @property
    def flaws(self) -> list[Result]:
        """The checks that the loss fails and declares to fail."""
        return [r for r in self.results if r.status is Status.KNOWN]

    @property
    def seconds(self) -> float:
        """The time of all checks together."""
        return sum(r.seconds for r in self.results)

    @property
    def status(self) -> Status:
        """The worst status of the checks; `NOT_APPLICABLE` for a skipped loss."""
        if self.skipped:
            return Status.NOT_APPLICABLE
        return Status.FAILED if self.failed else Status.KNOWN if self.flaws else Status.PASSED


def render_checks(verdict: Verdict) -> RenderableType:
    """Return a table of the checks of one loss and a sentence; a failed check comes with its demand."""
    table = _make_table("check", "verdict", "ms", "message")
    seen = set[str]()
    for result in verdict.results:
        message = result.message
        if result.status is Status.FAILED:
            # one fault often fails many checks with one message
            message = "the same" if message in seen else f"{message}\nexpected: {result.demand}"
        seen.add(result.message)
        status = Text(result.status, style=STYLES[result.status])
        table.add_row(Text(result.check), status, Text(f"{1000 * result.seconds:.0f}"), Text(message))
    counts = {status: sum(r.status is status for r in verdict.results) for status in Status}
    summary = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    return Group(table, Text(""), Text(f"{verdict.loss}: {summary}, in {verdict.seconds:.1f} s."))


def render_verdicts(verdicts: Sequence[Verdict]) -> RenderableType:
    """Return a table with a line per loss, its failed checks or the reason why it was skipped, and a sentence."""
    # 1. a line per loss
    table = _make_table("loss", "verdict", "ms", "message")
    for verdict in verdicts:
        messages = {r.check: r.message for r in verdict.results}
        if verdict.skipped:
            text = verdict.skipped
        elif bad := verdict.failed or verdict.flaws:
            text = "\n".join(f"{r.check}: {r.message}" for r in bad)
        else:
            text = f"{messages.get('route_through_a_stack', '')}, {messages.get('time_per_element', '')}"
        word = Text("skipped" if verdict.skipped else str(verdict.status), style=STYLES[verdict.status])
        milliseconds = "" if verdict.skipped else f"{1000 * verdict.seconds:.0f}"
        table.add_row(Text(verdict.loss), word, Text(milliseconds), Text(text))
    # 2. the totals
    ran = [v for v in verdicts if not v.skipped]
    failed = [v.loss for v in ran if v.failed]
    n_known = sum(v.status is Status.KNOWN for v in ran)
    known = f", {n_known} of them with known flaws" if n_known else ""
    names = f" ({', '.join(failed)})" if failed else ""
    skipped = f", {len(verdicts) - len(ran)} skipped" if len(ran) < len(verdicts) else ""
    total = (
        f"{len(ran) - len(failed)} of {len(ran)} losses pass{known}, {len(failed)} fail{names}{skipped}, "
        f"in {sum(v.seconds for v in verdicts):.1f} s."
    )
    return Group(table, Text(""), Text(total))


def convert_verdicts(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return verdicts as a JSON document."""
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


def _make_table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        is_last = heading == headings[-1]  # only the messages wrap
        justify: JustifyMethod = "right" if heading == "ms" else "left"
        table.add_column(Text(heading, style="bold"), overflow="fold", justify=justify, no_wrap=not is_last)
    return table
