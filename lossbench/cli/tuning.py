"""Tuning as rounds of training: what to train next follows from the records of what was trained before."""

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from lossbench import records
from lossbench.analysis.study import is_wanted
from lossbench.analysis.summary import Evidence, Summary, filled, summarise_trials
from lossbench.analysis.tuning import ranked
from lossbench.config import Experiment
from lossbench.config.protocol import Contender, Protocol, contender, rounded, with_lr
from lossbench.plan import trial_id

Rounds = Generator[list[Experiment], None, list[Experiment]]
"""Yields experiments to be trained, and returns those that are reported."""
Found = dict[tuple[Contender, float], list["Outcome"]]
"""By contender and rate, what became of its candidates, best first."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a candidate's tuning trials at one rate came to; None if none of them could be trained."""

    candidate: Experiment
    summary: Summary | None

    @property
    def lr(self) -> float:
        """The candidate's learning rate."""
        return self.candidate.template.optimizer.lr


def rounds(candidates: Sequence[Experiment], protocol: Protocol, tell: Tell = lambda text: None) -> Rounds:
    """Tune as the protocol says: by the grid or by a search; nothing where it does not."""
    if not protocol.tunes:
        return list(candidates)
    if protocol.search:
        from lossbench.cli.searching import searched  # Optuna is an extra

        found = yield from searched(candidates, protocol, tell)
    else:
        found = yield from _by_grid(list(candidates), protocol, tell)
    return _reported(found, candidates, protocol.clean)


def _by_grid(candidates: list[Experiment], protocol: Protocol, tell: Tell) -> Generator[list[Experiment], None, Found]:
    """The best of the grid, which is widened for all losses alike while the best of one lies at its edge."""
    tell(_what(candidates, protocol))
    new, tuning = [protocol.tuning(one) for one in candidates], list[Experiment]()
    for left in reversed(range(protocol.widen + 1)):
        yield new
        tuning += new
        found = outcomes(tuning)
        lrs = beyond(found) if left else {}
        if not lrs:
            break
        for lr, why in lrs.items():
            tell(f"{why}: {lr:g} is tried for all.")
        new = list(dict.fromkeys(with_lr(one, lr) for lr in lrs for one in tuning))
    return found


def outcomes(tuning: Sequence[Experiment]) -> Found:
    """By contender and rate, what became of its candidates, best first."""
    summaries = _by_trial(tuning)
    groups: Found = defaultdict(list)
    for candidate in tuning:
        for trial in candidate.trials()[:: len(candidate.seeds)]:  # one of each rate
            groups[contender(candidate), trial.rate].append(Outcome(candidate, summaries.get(trial_id(trial))))
    return {key: _ordered(found) for key, found in groups.items()}


def _ordered(found: Sequence[Outcome]) -> list[Outcome]:
    order = {id(summary): place for place, summary in enumerate(ranked([o.summary for o in found if o.summary]))}
    return sorted(found, key=lambda o: (order.get(id(o.summary), len(order)), o.lr))


def _by_trial(tuning: Sequence[Experiment]) -> dict[str, Summary]:
    """Each trial's summary. Curves and scores are left alone: what is chosen by stands in the table of trials."""
    import pandas as pd

    ids = {trial_id(trial) for experiment in tuning for trial in experiment.trials()}
    tables = [records.columns(folder, records.TRIALS, is_wanted) for folder in dict.fromkeys(e.folder for e in tuning)]
    trials = filled(pd.concat([table.to_pandas() for table in tables], ignore_index=True))
    trials = trials[trials["trial"].isin(ids) & ~trials["status"].isin(records.UNTRAINED)]
    summaries = summarise_trials(trials, Evidence({}, {})) if len(trials) else []
    return {trial: summary for summary in summaries for trial in (*summary.trials, *summary.diverged)}


def beyond(found: Found) -> dict[float, str]:
    """Learning rates next to the edges at which the best of some contender lies, each with who wants it."""
    lrs = sorted({outcome.lr for own in found.values() for outcome in own})
    if len(lrs) < 2:
        return {}
    new: dict[float, list[str]] = defaultdict(list)
    for best, *_ in found.values():
        if best.summary is None or not best.summary.trials:
            continue  # nothing of it was trained to the end, at no rate: there is no best
        for edge, inner in ((lrs[0], lrs[1]), (lrs[-1], lrs[-2])):
            if best.lr == edge:
                new[rounded(edge * edge / inner)].append(_label(best.candidate))
    return {lr: _told(lr, wanted, lrs) for lr, wanted in sorted(new.items())}


def _told(lr: float, wanted: Sequence[str], lrs: Sequence[float]) -> str:
    names = list(dict.fromkeys(wanted))
    most = f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
    edge, word = (lrs[0], "lowest") if lr < lrs[0] else (lrs[-1], "highest")
    return f"The best learning rate of {most} is the {word} tried, {edge:g}"


def _label(experiment: Experiment) -> str:
    t = experiment.template
    loss = t.contender or t.loss.label
    return loss if t.weighting.name == "none" else f"{loss} + {t.weighting.label}"


def _reported(found: Found, candidates: Sequence[Experiment], clean: bool) -> list[Experiment]:
    """Each contender's choice at each rate, or that at rate 0 at all of its own, on the seeds that are asked for."""
    asked = {contender(one): one for one in candidates}
    chosen: dict[Experiment, list[float]] = defaultdict(list)
    for (key, rate), own in found.items():
        rates = asked[key].rates if clean else [rate]
        chosen[replace(own[0].candidate, seeds=asked[key].seeds, rates=())] += rates
    return [replace(one, rates=tuple(sorted(own))) for one, own in chosen.items()]


def _what(candidates: Sequence[Experiment], protocol: Protocol) -> str:
    """As in: Tuning 8 losses at 5 learning rates from 0.0003 to 0.03, on 10 seeds, at each of 3 corruption rates."""
    lrs, rates = protocol.lrs, candidates[0].rates
    at = f"{len(lrs)} learning rates from {lrs[0]:g} to {lrs[-1]:g}" if len(lrs) > 1 else f"learning rate {lrs[0]:g}"
    each = len(rates) > 1 and not protocol.clean
    where = f"at each of {len(rates)} corruption rates" if each else f"at corruption rate {min(rates):g}"
    return f"Tuning {counted(candidates)} at {at}, on {protocol.tuning_seeds} seeds, {where}."


def counted(candidates: Sequence[Experiment]) -> str:
    """How many losses these are, each with its weighting, corruption and data."""
    n = len({contender(one) for one in candidates})
    return "1 loss" if n == 1 else f"{n} losses"
