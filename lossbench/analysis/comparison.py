"""From a study's records to what can be said of its losses: one comparison per data, model, setting and corruption."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis.interactions import Interaction, interactions
from lossbench.analysis.paired import Difference, Paired
from lossbench.analysis.rivals import Sample, rivals
from lossbench.analysis.scale import Scale, scale
from lossbench.analysis.study import DEFAULT_LOSS, Study
from lossbench.analysis.summary import Evidence, Reach, Summary, reach, steps_to_target
from lossbench.analysis.tuning import Tuned, get_contender, tune
from lossbench.analysis.verdicts import judge
from lossbench.errors import InvalidValue, make_unknown

OWN = ("head", "lr", "contender")
"""Settings that a loss may have of its own in a comparison."""
TARGET_SHARE = 0.9
"""Where "steps to target" aims: this share of the way from the baseline predictor to the best clean result."""


@dataclass(frozen=True)
class Asked:
    """What the caller wants: a baseline by name ("": the task's default loss), and the statistics' two numbers.

    rope: in percent of an error, or in points of accuracy and the like; None for the defaults.
    """

    baseline: str = ""
    rope: float | None = None
    confidence: float = 0.95


@dataclass(frozen=True)
class Row:
    """One loss (with its weighting, and its head where that tells them apart) at one rate.

    against: its difference from the baseline; None of the baseline itself, and where nothing can be paired.
    beaten: its difference from the rival that most surely beats it by more than the ROPE, if any does.
    steps: to the comparison's target. seconds: to the same, of the trial's share of its stack's time.
    """

    name: str
    tuned: Tuned
    recommended: bool
    against: Difference | None
    beaten: Difference | None
    steps: Reach | None
    seconds: float

    @property
    def summary(self) -> Summary:
        """The loss at its learning rate."""
        return self.tuned.summary


@dataclass(frozen=True)
class Level:
    """All losses at one corruption rate.

    apart: whether some of the recommended losses can be told apart, if by no more than the ROPE for sure.
    identical: groups of losses whose trainings went through the same numbers.
    sample: the test rows that differences are over; none where intervals speak for new seeds only.
    """

    corruption_rate: float
    rows: tuple[Row, ...]
    baseline: str
    scale: Scale
    apart: bool
    identical: tuple[tuple[str, ...], ...]
    interactions: tuple[Interaction, ...]
    sample: Sample

    @property
    def recommended(self) -> tuple[str, ...]:
        """Names of the losses that no other is shown to beat by more than the ROPE."""
        return tuple(row.name for row in self.rows if row.recommended)


@dataclass(frozen=True)
class Comparison:
    """Losses that share all settings but their own, over corruption rates.

    target: of "steps to target", the same for all; NaN where there is none.
    """

    settings: dict[str, Any]
    corruption: str
    levels: tuple[Level, ...]
    baseline_predictor: float
    target: float
    confidence: float

    @property
    def first(self) -> Summary:
        """Any of its summaries, for what all share."""
        return self.levels[0].rows[0].summary


def compare(study: Study, asked: Asked) -> list[Comparison]:
    """Every comparison of several losses that the records allow.

    Raises LossbenchError where there is none, or no such baseline.
    """
    summaries = study.summarise(asked.confidence)
    if not summaries:
        raise InvalidValue("There are only trials of tuning on record yet: the command that made them trains the rest.")
    groups = _grouped(summaries)
    several = {subject: levels for subject, levels in groups.items() if _are_several(levels)}
    if not several:
        raise InvalidValue(_nothing_to_compare(summaries))
    baseline = asked.baseline or _default(study)
    named = {_name(s) for s in summaries} | {get_contender(s) for s in summaries}
    if asked.baseline and asked.baseline not in named:
        raise make_unknown("baseline", asked.baseline, {_name(s) for s in summaries}, "Losses on record")
    targets, tuning = _targets(summaries), _grouped(study.summarise_tuning(asked.confidence))
    return [
        _comparison(levels, tuning[subject], targets[subject[0]], study.evidence, asked, baseline)
        for subject, levels in several.items()
    ]


def _are_several(levels: Mapping[float, Sequence[Summary]]) -> bool:
    return any(len({_key(summary) for summary in level}) > 1 for level in levels.values())


def _grouped(summaries: Sequence[Summary]) -> dict[Any, dict[float, list[Summary]]]:
    """By all that rivals share and their corruption, then by rate."""
    groups: dict[Any, dict[float, list[Summary]]] = defaultdict(lambda: defaultdict(list))
    for summary in summaries:
        groups[_subject(summary), summary.corruption][summary.corruption_rate].append(summary)
    return groups


def _subject(summary: Summary) -> tuple[Any, ...]:
    """All settings that rivals share."""
    return (summary.metric, *((k, v) for k, v in summary.settings.items() if k not in OWN))


def _key(summary: Summary) -> tuple[Any, ...]:
    return get_contender(summary), summary.weighting, summary.settings.get("head")


def _name(summary: Summary) -> str:
    """Of a loss whose fields are tuned, without them."""
    return summary.name.replace(summary.loss, get_contender(summary), 1)


def _nothing_to_compare(summaries: Sequence[Summary]) -> str:
    names = sorted({_name(s) for s in summaries})
    if len(names) == 1:
        return f"There is one loss only, {names[0]}: nothing to compare. Give folders of several losses."
    values: dict[str, set[Any]] = defaultdict(set)
    for summary in summaries:
        for setting, value in {
            **summary.settings,
            "corruption": summary.corruption,
            "corruption_rate": summary.corruption_rate,
        }.items():
            values[setting].add(value)
    differing = [f"{n} ({', '.join(sorted(map(str, v)))})" for n, v in values.items() if len(v) > 1 and n not in OWN]
    return f"No two of {', '.join(names[:10])} share all settings: they differ in {'; '.join(differing)}."


def _default(study: Study) -> str:
    """The task's default loss, where the records tell."""
    known = study.trials.get(DEFAULT_LOSS, pd.Series(dtype=object)).dropna()
    return str(known.iloc[0]) if len(known) else ""


def _targets(summaries: Sequence[Summary]) -> dict[Any, tuple[float, float]]:
    """By subject, the baseline predictor's value and the target: from what is best at the lowest rate."""
    groups: dict[Any, list[Summary]] = defaultdict(list)
    for summary in summaries:
        groups[_subject(summary)].append(summary)
    return {subject: _target(found) for subject, found in groups.items()}


def _target(summaries: Sequence[Summary]) -> tuple[float, float]:
    trivial = float(np.mean([s.baseline_predictor for s in summaries if np.isfinite(s.baseline_predictor)] or [np.nan]))
    cleanest = min(s.corruption_rate for s in summaries)
    values = [s.last.value for s in summaries if s.corruption_rate == cleanest and s.last]
    if not values or not np.isfinite(trivial):
        return trivial, np.nan
    up = summaries[0].higher_is_better
    best = max(values) if up else min(values)
    target = trivial + TARGET_SHARE * (best - trivial)
    return trivial, target if (best > trivial) == up and best != trivial else np.nan


def _comparison(
    levels: Mapping[float, Sequence[Summary]],
    tuning: Mapping[float, Sequence[Summary]],
    aims: tuple[float, float],
    evidence: Evidence,
    asked: Asked,
    baseline: str,
) -> Comparison:
    first = next(iter(levels.values()))[0]
    by_rate = {rate: tuning.get(rate) or tuning.get(0.0) or () for rate in levels}
    made = tuple(
        _level(rate, levels[rate], by_rate[rate], aims[1], evidence, asked, baseline) for rate in sorted(levels)
    )
    settings = {k: v for k, v in first.settings.items() if k not in OWN}
    return Comparison(settings, first.corruption, made, *aims, asked.confidence)


def _level(
    rate: float,
    found: Sequence[Summary],
    candidates: Sequence[Summary],
    target: float,
    evidence: Evidence,
    asked: Asked,
    wanted: str,
) -> Level:
    first = found[0]
    values = [value for summary in found for value in summary.values.values()]
    measured = scale(values, first.higher_is_better, first.perfect, asked.rope)
    tuned = _tuned(found, candidates, measured)
    baseline = _baseline(tuned, wanted)
    entered = rivals([*tuned], [t.summary for t in tuned.values()], measured, evidence)
    bad = np.array([tuned[name].summary.n_diverged > 0 for name in entered.names], bool)
    judged = judge(entered.found, measured.rope, 1 - asked.confidence, bad, entered.same)
    pairs = Paired(entered, judged, measured, asked.confidence)
    rows = [_row(name, own, baseline, pairs, target, evidence) for name, own in tuned.items()]
    rows.sort(key=lambda row: (_badness(row.summary), row.name))
    inside = np.ix_(judged.recommended, judged.recommended)
    return Level(
        corruption_rate=rate,
        rows=tuple(rows),
        baseline=baseline,
        scale=measured,
        apart=bool(np.isin(judged.verdicts[inside].astype(str), ["better", "worse"]).any()),
        identical=entered.identical(),
        interactions=interactions(tuned, entered, baseline, measured, asked.confidence),
        sample=entered.sample,
    )


def _tuned(found: Sequence[Summary], candidates: Sequence[Summary], measured: Scale) -> dict[str, Tuned]:
    """Each loss by name, at its learning rate."""
    groups, chosen_by = _by_key(found), _by_key(candidates)
    names = [_name(own[0]) for own in groups.values()]
    tuned = {}
    for name, (key, own) in zip(names, groups.items(), strict=True):
        told = name if names.count(name) == 1 else f"{name}, head={own[0].settings.get('head')}"
        by = chosen_by[key]
        tuned[told] = tune(own, by, measured, clean=bool(by) and by[0].corruption_rate != own[0].corruption_rate)
    return tuned


def _by_key(summaries: Sequence[Summary]) -> dict[Any, list[Summary]]:
    groups: dict[Any, list[Summary]] = defaultdict(list)
    for summary in summaries:
        groups[_key(summary)].append(summary)
    return groups


def _baseline(tuned: Mapping[str, Tuned], wanted: str) -> str:
    """The loss called `wanted`, without weighting if there is a choice; else the first with a result."""
    alike = [name for name, own in tuned.items() if wanted in (name, own.summary.name, own.loss)]
    alike.sort(key=lambda name: (name != wanted, tuned[name].summary.name != wanted, name))
    there = [name for name, own in tuned.items() if own.summary.trials]
    return next(iter([*alike, *there, *tuned]))


def _row(name: str, own: Tuned, baseline: str, pairs: Paired, target: float, evidence: Evidence) -> Row:
    arrived = _steps(own.summary, target, evidence)
    return Row(
        name=name,
        tuned=own,
        recommended=pairs.recommended(name),
        against=pairs.difference(name, baseline),
        beaten=pairs.beaten(name),
        steps=arrived,
        seconds=_seconds(own.summary, arrived, evidence),
    )


def _steps(summary: Summary, target: float, evidence: Evidence) -> Reach | None:
    """Steps to the target, diverged trials never getting there; None without a target or curves."""
    curves = [evidence.curves[trial] for trial in summary.trials if trial in evidence.curves]
    if not np.isfinite(target) or len(curves) < len(summary.trials) or not curves:
        return None
    found = [steps_to_target(*curve, target, summary.higher_is_better) for curve in curves]
    return reach(found + [np.inf] * summary.n_diverged)


def _seconds(summary: Summary, arrived: Reach | None, evidence: Evidence) -> float:
    """A trial's share of its stack's time, up to that step."""
    if arrived is None or not np.isfinite(arrived.median):
        return np.nan
    steps = evidence.curves[summary.trials[0]][0]
    return float(summary.wall_seconds * arrived.median / max(steps[-1], 1))


def _badness(summary: Summary) -> float:
    value = summary.last.value if summary.last else np.nan
    return (-value if summary.higher_is_better else value) if np.isfinite(value) else np.inf
