"""Results of a run or of folders of records: tables, figures, comparisons and recommendations."""

from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lossbench import records
from lossbench.analysis.comparison import ComparisonOptions, compare
from lossbench.analysis.study import FOLDER, Study
from lossbench.analysis.summary import Summary
from lossbench.errors import InvalidValue, make_unknown
from lossbench.records import CURVES, TRIALS, UNTRAINED
from lossbench.report.tables import summaries as summary_tables
from lossbench.report.tables.html import wrap_in_pre
from lossbench.report.tables.text import render_text
from lossbench.runner.plan_result import PlanResult
from lossbench.seeds import trial_id
from lossbench.study.comparison import Comparison
from lossbench.study.recommendation import Recommendation, recommend
from lossbench.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ESTIMATES = {"last": "", "best": "best_epoch_"}
"""Epochs whose metric has an interval in the table, and the prefix of the columns' names."""
FIGURES = ("curves", "robustness", "differences", "tuning")


class Results:
    """Trials on record, with their tables, figures and comparisons. The trials themselves are read once.

    study: the trials, those of tuning included. skipped: combinations that do not fit together, a line per reason.
    messages: those of the run, in order.
    """

    def __init__(self, study: Study, skipped: Sequence[str] = (), messages: Sequence[str] = ()) -> None:
        self.study = study
        self.skipped = list(skipped)
        self.messages = list(messages)

    def select(self, *parts: PlanResult) -> "Results":
        """Return the results of just these experiments: their folders may hold more seeds and rates."""
        experiments = dict.fromkeys(e for part in parts for e in (*part.experiments, *part.tuning))
        # the records of a folder may come from several commands: those of this one are known by their ids
        ids = {trial_id(trial) for experiment in experiments for trial in experiment.list_trials()}
        return Results(self.study.select(ids), self.skipped, self.messages)

    @property
    def folders(self) -> list[Path]:
        """The folders of records of the trials that are reported."""
        return [Path(str(folder)) for folder in dict.fromkeys(self.study.reported[FOLDER])]

    @property
    def is_trained(self) -> bool:
        """True if any trial has numbers."""
        return not bool(self.study.reported["status"].isin(UNTRAINED).all())

    @property
    def failed(self) -> dict[str, int]:
        """The number of failed trials by reason; if all trials were skipped, of these."""
        trials = self.study.reported
        wrong = trials[trials["status"].isin(["failed"] if self.is_trained else UNTRAINED)]
        reasons = [str(reason) for reason in wrong.get("reason", [])]
        return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}

    @property
    def value(self) -> float:
        """The mean primary metric on validation data at the last epoch, over all trials; NaN if none has a value.

        It is the metric itself: tell a sweeper whether to minimise or maximise it. A diverged trial counts as the
        baseline predictor: otherwise a setting would look good for diverging on hard data. Trials that failed or were
        skipped are left out: they say nothing about the setting.
        """
        values = [_list_validation_values(part) for _, part in self.study.reported.groupby("metric")]
        finite = np.concatenate([np.zeros(0), *values])
        return float(finite.mean()) if finite.size else np.nan

    @property
    def summaries(self) -> list[Summary]:
        """A summary with intervals for each setting, corruption, loss, weighting and corruption rate."""
        return self.study.summarise()

    def table(self) -> pd.DataFrame:
        """Return a row per loss, weighting, corruption, corruption rate and setting; the test metric has 95% CIs."""
        return pd.DataFrame([_make_table_row(summary) for summary in self.summaries])

    def trials(self) -> pd.DataFrame:
        """Return a row per reported trial, with all its settings and facts."""
        return self._read_reported(TRIALS)

    def curves(self) -> pd.DataFrame:
        """Return the learning curves of reported trials: a row per trial, step, split and metric, with the value."""
        curves = self._read_reported(CURVES)
        # files of curves hold ids alone: add the columns by which people group them
        known = ["trial", "loss", "weighting", "corruption", "corruption_rate", "seed"]
        return self.study.reported[known].merge(curves, on="trial")

    def compare(self, baseline: str = "", rope: float | None = None, confidence: float = 0.95) -> Comparison:
        """Return the comparison of the losses: paired differences with intervals, verdicts, the recommended set.

        baseline: a loss's name; the task's default loss without one.
        rope: the region of practical equivalence; by default 2% of an error, or 1 point. In percent of an error: 5
            means 5%. In points of other metrics, hundredths of a perfect value: 5 means 0.05 of the accuracy.
        confidence: of the intervals, a share: 0.95 means 95%.

        Raises `LossbenchError` where there is one loss only, or no such baseline.
        """
        if rope is not None and not (_is_number(rope) and 0 < rope < 100):
            raise InvalidValue(
                "rope must be a number in the range (0, 100): percent of an error, or points of other metrics such as "
                f"accuracy. Got {rope!r} instead."
            )
        if not (_is_number(confidence) and 0.5 <= confidence < 1):
            raise InvalidValue(
                f"confidence must be a share from 0.5 to below 1, and not a percentage. Got {confidence!r} instead."
            )
        return Comparison(tuple(compare(self.study, ComparisonOptions(baseline, rope, confidence))))

    def plot(self, kind: str = "curves", baseline: str = "", part: int = 0) -> "Figure":
        """Return a matplotlib figure: `curves`, `robustness`, `differences` from a baseline, or `tuning`.

        part: the number of the comparison, where data, model, settings or corruption differ.

        Raises `LossbenchError` for an unknown kind, and if the records hold nothing to draw.
        """
        if kind not in FIGURES:
            raise make_unknown("plot", kind, FIGURES, "There are")
        # imported late: matplotlib is slow to import
        from lossbench.report.figures.differences import plot_differences
        from lossbench.report.figures.learning_curves import plot_curves
        from lossbench.report.figures.robustness import plot_robustness
        from lossbench.report.figures.tuning import plot_tuning

        # the curves of one loss need no comparison, which would raise
        if kind == "curves" and len(self.study.reported["loss"].unique()) == 1:
            return plot_curves(self.summaries, self.study.measurements)
        parts = self.compare(baseline).parts
        if part not in range(len(parts)):
            raise InvalidValue(f"part must be from 0 to {len(parts) - 1}, one of the comparisons. Got {part} instead.")
        if kind == "curves":
            return plot_curves(parts[part], self.study.measurements)
        plot = {"robustness": plot_robustness, "differences": plot_differences, "tuning": plot_tuning}[kind]
        return plot(parts[part])

    def recommended(self, baseline: str = "") -> list[Recommendation]:
        """Return the losses that no other is shown to beat, at each corruption rate, the simplest first."""
        parts = self.compare(baseline).parts
        # by trial, the configuration that its folder holds: plain values, nothing of it is imported
        configurations = {folder: records.load_config(folder) for folder in self.folders}
        trials = self.study.reported
        by_trial: dict[str, Mapping[str, Any]] = {
            str(trial): configurations[Path(str(folder))]
            for trial, folder in zip(trials["trial"], trials[FOLDER], strict=True)
        }
        return recommend(parts, by_trial)

    def _read_reported(self, name: str) -> pd.DataFrame:
        """Return the rows of reported trials from a file of records."""
        tables = [pd.DataFrame({"trial": pd.Series(dtype=str)})]  # of no rows, for records without any
        for folder, trials in self.study.reported.groupby(FOLDER, sort=False):  # another may hold a copy of them
            table = records.read_columns(Path(str(folder)), name, lambda _: True).to_pandas()
            tables.append(table[table["trial"].isin(trials["trial"])])
        return pd.concat(tables[1:] or tables, ignore_index=True)

    def __len__(self) -> int:
        return len(self.study.reported)

    def __str__(self) -> str:
        return "\n".join([render_text(summary_tables.render_summaries(self.summaries)), *self.skipped])

    def __repr__(self) -> str:
        return f"<Results: {len(self)} trials of {', '.join(sorted(set(self.study.reported['loss'])))}>"

    def _repr_html_(self) -> str:
        return wrap_in_pre(str(self))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _list_validation_values(trials: pd.DataFrame) -> Array:
    """Return the finite validation values at the last epoch, of trials that share the metric."""
    column = f"validation/{trials['metric'].iloc[0]}/last"
    if column not in trials:
        return np.zeros(0)
    tried = trials[~trials["status"].isin(UNTRAINED)]
    last, baseline = (pd.to_numeric(tried[name]).to_numpy(np.float64) for name in (column, "baseline_predictor"))
    # a diverged trial counts as the baseline predictor
    values: Array = np.where(tried["status"] == "finished", last, baseline)
    return values[np.isfinite(values)]


def _make_table_row(summary: Summary) -> dict[str, Any]:
    """Return a summary as scalars: its names, the metric with its interval, training, then the settings."""
    row: dict[str, Any] = {
        name: getattr(summary, name) for name in ("loss", "weighting", "corruption", "corruption_rate")
    }
    row |= {"metric": summary.metric}
    for epoch, prefix in ESTIMATES.items():
        estimate = getattr(summary, epoch)
        for name in ("value", "low", "high"):
            row[f"{prefix}{name}"] = getattr(estimate, name) if estimate else np.nan
    row |= {
        "steps_to_target": summary.steps.median if summary.steps else np.nan,
        "aulc": summary.aulc,
        "degradation": summary.degradation.value if summary.degradation else np.nan,
        "baseline_predictor": summary.baseline_predictor,
        "n_trials": summary.n_trials,
        "n_diverged": summary.n_diverged,
        "n_failed": summary.n_failed,
        "n_skipped": summary.n_skipped,
        "wall_seconds": summary.wall_seconds,
    }
    return row | {n: v for n, v in summary.settings.items() if n not in row}
