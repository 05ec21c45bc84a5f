"""Comparison of a study's losses: one per data set, model, setting and corruption."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis.interactions import WeightingInteraction, measure_weighting_interactions
from lossbench.analysis.pairwise import Difference, PairwiseDifferences
from lossbench.analysis.rivals import Sample, collect_rivals
from lossbench.analysis.scale import Scale, choose_scale
from lossbench.analysis.study import DEFAULT_LOSS, Study
from lossbench.analysis.summary import Measurements, StepsToTarget, Summary, steps_to_target, summarise_steps
from lossbench.analysis.tuning import TunedLoss, get_contender, select_setting
from lossbench.analysis.verdicts import judge_pairs
from lossbench.errors import InvalidValue, make_unknown

LOSS_SETTINGS = ("head", "lr", "contender")
"""Settings that may differ from loss to loss within a comparison."""
TARGET_SHARE = 0.9
"""The target of "steps to target": this share of the way from the baseline predictor to the best clean result."""


@dataclass(frozen=True)
class ComparisonOptions:
    """Options of a comparison.

    baseline: a loss's name; empty for the task's default loss.
    rope: the region of practical equivalence, in percent of an error, or in points of accuracy and the like; None for
        the defaults.
    confidence: of the intervals, a share such as 0.95.
    """

    baseline: str = ""
    rope: float | None = None
    confidence: float = 0.95


@dataclass(frozen=True)
class Row:
    """One loss (with its weighting, and its head where losses differ in it) at one corruption rate.

    vs_baseline: its difference from the baseline; None for the baseline itself, and where nothing can be paired.
    beaten_by: its difference from the rival that most surely beats it by more than the ROPE, if any does.
    steps, seconds: to the comparison's target; seconds are the trial's share of its stack's time.
    """

    name: str
    tuned: TunedLoss
    recommended: bool
    vs_baseline: Difference | None
    beaten_by: Difference | None
    steps: StepsToTarget | None
    seconds: float

    @property
    def summary(self) -> Summary:
        """The loss at its learning rate."""
        return self.tuned.summary


@dataclass(frozen=True)
class RateComparison:
    """All losses at one corruption rate.

    recommended_differ: some of the recommended losses differ significantly, though not by more than the ROPE for sure.
    identical: groups of losses whose trainings went through the same numbers.
    sample: the test examples that differences are over; none where intervals hold for new seeds only.
    """

    corruption_rate: float
    rows: tuple[Row, ...]
    baseline: str
    scale: Scale
    recommended_differ: bool
    identical: tuple[tuple[str, ...], ...]
    interactions: tuple[WeightingInteraction, ...]
    sample: Sample

    @property
    def recommended(self) -> tuple[str, ...]:
        """Names of the losses that no other is shown to beat by more than the ROPE."""
        return tuple(row.name for row in self.rows if row.recommended)


@dataclass(frozen=True)
class Comparison:
    """Losses that share all settings but `LOSS_SETTINGS`, over corruption rates.

    target: of "steps to target", the same for all losses; NaN where there is none.
    """

    settings: dict[str, Any]
    corruption: str
    levels: tuple[RateComparison, ...]
    baseline_predictor: float
    target: float
    confidence: float

    @property
    def first(self) -> Summary:
        """Any of its summaries, for what all share."""
        return self.levels[0].rows[0].summary


def compare(study: Study, options: ComparisonOptions) -> list[Comparison]:
    """Make every comparison of several losses that the records allow.

    Raises LossbenchError where there is none, or no such baseline.
    """
    summaries = study.summarise(options.confidence)
    if not summaries:
        raise InvalidValue("There are only trials of tuning on record yet: the command that made them trains the rest.")
    # 1. summaries that share all but the loss, by corruption rate; those that hold several losses
    groups = _group_summaries(summaries)
    comparable = {
        subject: levels
        for subject, levels in groups.items()
        if any(len({_get_rival_key(summary) for summary in level}) > 1 for level in levels.values())
    }
    if not comparable:
        raise InvalidValue(_explain_lone_loss(summaries))
    # 2. the baseline: what the caller named, or else the task's default loss
    names = {_get_name(summary) for summary in summaries}
    if options.baseline and options.baseline not in names | {get_contender(summary) for summary in summaries}:
        raise make_unknown("baseline", options.baseline, names, "Losses on record")
    defaults = study.trials.get(DEFAULT_LOSS, pd.Series(dtype=object)).dropna()  # older records lack it
    baseline = options.baseline or (str(defaults.iloc[0]) if len(defaults) else "")
    # 3. one comparison each, with the target that all corruptions of a subject share
    by_subject: dict[Any, list[Summary]] = defaultdict(list)
    for summary in summaries:
        by_subject[_get_subject(summary)].append(summary)
    tuning = _group_summaries(study.summarise_tuning(options.confidence))
    comparisons = []
    for (subject, corruption), levels in comparable.items():
        baseline_predictor, target = _choose_target(by_subject[subject])
        candidates = tuning[subject, corruption]
        compared = tuple(
            _compare_at_rate(
                rate,
                levels[rate],
                candidates.get(rate) or candidates.get(0.0) or (),  # tuned at this rate, or once at rate 0
                target,
                study.measurements,
                options,
                baseline,
            )
            for rate in sorted(levels)
        )
        first = next(iter(levels.values()))[0]
        settings = {name: value for name, value in first.settings.items() if name not in LOSS_SETTINGS}
        comparisons.append(Comparison(settings, corruption, compared, baseline_predictor, target, options.confidence))
    return comparisons


def _group_summaries(summaries: Sequence[Summary]) -> dict[Any, dict[float, list[Summary]]]:
    """Group by all that rivals share and their corruption, then by corruption rate."""
    groups: dict[Any, dict[float, list[Summary]]] = defaultdict(lambda: defaultdict(list))
    for summary in summaries:
        groups[_get_subject(summary), summary.corruption][summary.corruption_rate].append(summary)
    return groups


def _get_subject(summary: Summary) -> tuple[Any, ...]:
    """Return all settings that rivals share."""
    return (summary.metric, *((name, v) for name, v in summary.settings.items() if name not in LOSS_SETTINGS))


def _get_rival_key(summary: Summary) -> tuple[Any, ...]:
    """Return what makes a rival one loss, whatever its learning rate and tuned fields."""
    return get_contender(summary), summary.weighting, summary.settings.get("head")


def _get_name(summary: Summary) -> str:
    """Return the loss and its weighting, without tuned fields."""
    return summary.name.replace(summary.loss, get_contender(summary), 1)


def _explain_lone_loss(summaries: Sequence[Summary]) -> str:
    """Explain why there is nothing to compare: one loss only, or none that share all settings."""
    names = sorted({_get_name(summary) for summary in summaries})
    if len(names) == 1:
        return f"There is one loss only, {names[0]}: nothing to compare. Give folders of several losses."
    values: dict[str, set[Any]] = defaultdict(set)
    for summary in summaries:
        shared = {"corruption": summary.corruption, "corruption_rate": summary.corruption_rate}
        for setting, value in (summary.settings | shared).items():
            values[setting].add(value)
    differing = "; ".join(
        f"{name} ({', '.join(sorted(map(str, some)))})"
        for name, some in values.items()
        if len(some) > 1 and name not in LOSS_SETTINGS
    )
    return f"No two of {', '.join(names[:10])} share all settings: they differ in {differing}."


def _choose_target(summaries: Sequence[Summary]) -> tuple[float, float]:
    """Return the baseline predictor's value and the target, from the best result at the lowest corruption rate."""
    known = [s.baseline_predictor for s in summaries if np.isfinite(s.baseline_predictor)]
    baseline_predictor = float(np.mean(known or [np.nan]))
    cleanest = min(summary.corruption_rate for summary in summaries)
    values = [s.last.value for s in summaries if s.corruption_rate == cleanest and s.last]
    if not values or not np.isfinite(baseline_predictor):
        return baseline_predictor, np.nan
    up = summaries[0].higher_is_better
    best = max(values) if up else min(values)
    is_ahead = best != baseline_predictor and (best > baseline_predictor) == up
    target = baseline_predictor + TARGET_SHARE * (best - baseline_predictor)
    return baseline_predictor, target if is_ahead else np.nan


def _compare_at_rate(
    corruption_rate: float,
    summaries: Sequence[Summary],
    candidates: Sequence[Summary],
    target: float,
    measurements: Measurements,
    options: ComparisonOptions,
    baseline: str,
) -> RateComparison:
    """Compare all losses at one corruption rate."""
    first = summaries[0]
    # 1. the scale on which differences are taken
    values = [value for summary in summaries for value in summary.values.values()]
    scale = choose_scale(values, first.higher_is_better, first.perfect, options.rope)
    # 2. each loss at its selected setting
    tuned = _select_settings(summaries, candidates, scale)
    baseline = _find_baseline(tuned, baseline)
    # 3. paired differences of all pairs, and the verdicts on them
    rivals = collect_rivals([*tuned], [t.summary for t in tuned.values()], scale, measurements)
    has_diverged = np.array([tuned[name].summary.n_diverged > 0 for name in rivals.names], bool)  # [L]
    judgement = judge_pairs(rivals.differences, scale.rope, 1 - options.confidence, has_diverged, rivals.identical)
    pairs = PairwiseDifferences(rivals, judgement, scale, options.confidence)
    # 4. a row per loss, the best first
    rows = []
    for name, selected in tuned.items():
        steps, seconds = _count_steps_to_target(selected.summary, target, measurements)
        rows.append(
            Row(
                name=name,
                tuned=selected,
                recommended=pairs.is_recommended(name),
                vs_baseline=pairs.get_difference(name, baseline),
                beaten_by=pairs.find_surest_defeat(name),
                steps=steps,
                seconds=seconds,
            )
        )
    rows.sort(key=lambda row: (row.summary.sort_value, row.name))
    inside = np.ix_(judgement.recommended, judgement.recommended)
    return RateComparison(
        corruption_rate=corruption_rate,
        rows=tuple(rows),
        baseline=baseline,
        scale=scale,
        recommended_differ=bool(np.isin(judgement.verdicts[inside].astype(str), ["better", "worse"]).any()),
        identical=rivals.find_identical_groups(),
        interactions=measure_weighting_interactions(tuned, rivals, baseline, scale, options.confidence),
        sample=rivals.sample,
    )


def _select_settings(summaries: Sequence[Summary], candidates: Sequence[Summary], scale: Scale) -> dict[str, TunedLoss]:
    """Return each loss by name at its selected setting; the head is part of names that would clash."""
    groups: dict[Any, list[Summary]] = defaultdict(list)
    for summary in summaries:
        groups[_get_rival_key(summary)].append(summary)
    pools: dict[Any, list[Summary]] = defaultdict(list)
    for summary in candidates:
        pools[_get_rival_key(summary)].append(summary)
    names = [_get_name(group[0]) for group in groups.values()]
    tuned = {}
    for name, (key, group) in zip(names, groups.items(), strict=True):
        pool = pools[key]
        only_at_rate_zero = bool(pool) and pool[0].corruption_rate != group[0].corruption_rate
        label = name if names.count(name) == 1 else f"{name}, head={group[0].settings.get('head')}"
        tuned[label] = select_setting(group, pool, scale, only_at_rate_zero=only_at_rate_zero)
    return tuned


def _find_baseline(tuned: Mapping[str, TunedLoss], name: str) -> str:
    """Return the loss with this name, without weighting if there is a choice; else the first with a result."""
    alike = [label for label, t in tuned.items() if name in (label, t.summary.name, t.loss)]
    alike.sort(key=lambda label: (label != name, tuned[label].summary.name != name, label))
    with_result = [label for label, t in tuned.items() if t.summary.trials]
    return next(iter([*alike, *with_result, *tuned]))


def _count_steps_to_target(
    summary: Summary, target: float, measurements: Measurements
) -> tuple[StepsToTarget | None, float]:
    """Return the steps and seconds to the target, diverged trials never arriving; None without a target or curves."""
    curves = [measurements.curves[trial] for trial in summary.trials if trial in measurements.curves]
    if not np.isfinite(target) or len(curves) < len(summary.trials) or not curves:
        return None, np.nan
    steps = [steps_to_target(*curve, target, summary.higher_is_better) for curve in curves]
    reach = summarise_steps(steps + [np.inf] * summary.n_diverged)
    if not np.isfinite(reach.median):
        return reach, np.nan
    last_step = max(curves[0][0][-1], 1)
    return reach, float(summary.wall_seconds * reach.median / last_step)
