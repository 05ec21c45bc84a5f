"""Tuning by the same grid of learning rates for every loss."""

from collections import defaultdict
from collections.abc import Sequence

from lossbench.config.choices import Experiment
from lossbench.config.protocol import Protocol, replace_lr, round_value
from lossbench.runner.tuning.outcome import Announce, Outcomes, Rounds, collect_outcomes, count_losses


def tune_by_grid(candidates: Sequence[Experiment], protocol: Protocol, announce: Announce) -> Rounds:
    """Train the grid, and extend it for all losses alike while the best learning rate of one lies at its edge."""
    # such as: Tuning 8 losses at 5 learning rates from 0.0003 to 0.03, on 10 seeds, at each of 3 corruption rates.
    lrs, rates = protocol.lrs, candidates[0].rates
    grid = f"{len(lrs)} learning rates from {lrs[0]:g} to {lrs[-1]:g}" if len(lrs) > 1 else f"learning rate {lrs[0]:g}"
    at_each = len(rates) > 1 and not protocol.clean
    where = f"at each of {len(rates)} corruption rates" if at_each else f"at corruption rate {min(rates):g}"
    announce(f"Tuning {count_losses(candidates)} at {grid}, on {protocol.tuning_seeds} seeds, {where}.")

    new = [protocol.make_tuning_experiment(candidate) for candidate in candidates]
    tuning: list[Experiment] = []
    for extensions_left in reversed(range(protocol.grid_extensions + 1)):
        yield new
        tuning += new
        outcomes = collect_outcomes(tuning)
        extension = extend_grid(outcomes) if extensions_left else {}
        if not extension:
            break
        for lr, reason in extension.items():
            announce(f"{reason}: {lr:g} is tried for all.")
        new = list(dict.fromkeys(replace_lr(experiment, lr) for lr in extension for experiment in tuning))
    return outcomes


def extend_grid(outcomes: Outcomes) -> dict[float, str]:
    """Return learning rates beyond those edges at which the best of some contender lies, each with the reason."""
    lrs = sorted({outcome.lr for ranked in outcomes.values() for outcome in ranked})
    if len(lrs) < 2:
        return {}
    # 1. the contenders that need each of the (at most two) new learning rates
    contenders: dict[float, list[str]] = defaultdict(list)
    for best, *_ in outcomes.values():
        if best.summary is None or not best.summary.trials:
            continue  # no candidate has a finished trial: there is no best
        for edge, inner in ((lrs[0], lrs[1]), (lrs[-1], lrs[-2])):
            if best.lr == edge:
                t = best.candidate.template
                loss = t.contender or t.loss.label
                label = loss if t.weighting.name == "none" else f"{loss} + {t.weighting.label}"
                contenders[round_value(edge * edge / inner)].append(label)  # the same step again, on a log scale
    # 2. the reasons
    reasons = {}
    for lr, labels in sorted(contenders.items()):
        names = list(dict.fromkeys(labels))  # one contender may be at the edge at several corruption rates
        text = f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        edge, word = (lrs[0], "lowest") if lr < lrs[0] else (lrs[-1], "highest")
        reasons[lr] = f"The best learning rate of {text} is the {word} tried, {edge:g}"
    return reasons
