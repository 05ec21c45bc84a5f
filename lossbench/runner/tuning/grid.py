"""Tuning by the same grid of learning rates for every loss."""

from collections import defaultdict
from collections.abc import Sequence

from lossbench.config.choices import Experiment
from lossbench.config.protocol import Protocol, replace_lr, round_value
from lossbench.runner.tuning.outcome import Outcomes, Rounds, Tell, collect_outcomes, count_losses


def tune_by_grid(candidates: Sequence[Experiment], protocol: Protocol, tell: Tell) -> Rounds:
    """Try the grid, which is widened for all losses alike while the best of one lies at its edge."""
    tell(_describe(candidates, protocol))
    new, tuning = [protocol.make_tuning_experiment(one) for one in candidates], list[Experiment]()
    for left in reversed(range(protocol.grid_extensions + 1)):
        yield new
        tuning += new
        found = collect_outcomes(tuning)
        lrs = find_edges(found) if left else {}
        if not lrs:
            break
        for lr, why in lrs.items():
            tell(f"{why}: {lr:g} is tried for all.")
        new = list(dict.fromkeys(replace_lr(one, lr) for lr in lrs for one in tuning))
    return found


def find_edges(found: Outcomes) -> dict[float, str]:
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
                new[round_value(edge * edge / inner)].append(_label(best.candidate))
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


def _describe(candidates: Sequence[Experiment], protocol: Protocol) -> str:
    """As in: Tuning 8 losses at 5 learning rates from 0.0003 to 0.03, on 10 seeds, at each of 3 corruption rates."""
    lrs, rates = protocol.lrs, candidates[0].rates
    at = f"{len(lrs)} learning rates from {lrs[0]:g} to {lrs[-1]:g}" if len(lrs) > 1 else f"learning rate {lrs[0]:g}"
    each = len(rates) > 1 and not protocol.clean
    where = f"at each of {len(rates)} corruption rates" if each else f"at corruption rate {min(rates):g}"
    return f"Tuning {count_losses(candidates)} at {at}, on {protocol.tuning_seeds} seeds, {where}."
