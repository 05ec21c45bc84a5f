"""Tuning in rounds of training: the records of earlier rounds decide what the next one trains."""

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from lossbench.config.choices import Experiment
from lossbench.config.protocol import Protocol, get_contender
from lossbench.config.resolve import ExperimentPlan
from lossbench.runner.plan_result import PlanResult
from lossbench.runner.reporter import Reporter
from lossbench.runner.tuning.grid import tune_by_grid
from lossbench.runner.tuning.outcome import Announce


def tune(
    plans: Sequence[ExperimentPlan], reporter: Reporter, train: Callable[[list[Experiment]], None]
) -> list[PlanResult]:
    """Tune all plans together, round by round; return each plan's experiments with the chosen settings.

    Plans without tuning are returned as they are. train: trains the experiments of a round.
    """
    results = [PlanResult(plan.experiments) for plan in plans]
    generators = {
        i: choose_settings(plan.experiments, plan.protocol, reporter.on_message)
        for i, plan in enumerate(plans)
        if plan.protocol.tunes
    }
    while generators:
        # 1. collect the next round of every plan; one that has finished returns its choice
        experiments: dict[Experiment, None] = {}  # a dictionary as an ordered set: plans may share experiments
        for i, rounds in list(generators.items()):
            try:
                new = next(rounds)
                results[i] = replace(results[i], tuning=(*results[i].tuning, *new))
                experiments |= dict.fromkeys(new)
            except StopIteration as finished:
                results[i] = replace(results[i], experiments=tuple(finished.value))
                del generators[i]
        # 2. train them together
        if experiments:
            train(list(experiments))
    return results


def choose_settings(
    candidates: Sequence[Experiment], protocol: Protocol, announce: Announce = lambda text: None
) -> Generator[list[Experiment], None, list[Experiment]]:
    """Tune by the grid or by a search: yield experiments to be trained, and return those that are reported."""
    if protocol.search:
        from lossbench.runner.tuning.search import tune_by_search  # Optuna is an extra

        outcomes = yield from tune_by_search(candidates, protocol, announce)
    else:
        outcomes = yield from tune_by_grid(candidates, protocol, announce)
    # each contender's best settings at each corruption rate, or those at rate 0 at all of its rates, on the
    # reported seeds; rates with the same settings become one experiment
    candidate_of = {get_contender(candidate): candidate for candidate in candidates}
    chosen: dict[Experiment, list[float]] = defaultdict(list)
    for (contender, corruption_rate), ranked in outcomes.items():
        candidate = candidate_of[contender]
        rates = candidate.rates if protocol.clean else [corruption_rate]
        chosen[replace(ranked[0].candidate, seeds=candidate.seeds, rates=())] += rates
    return [replace(experiment, rates=tuple(sorted(rates))) for experiment, rates in chosen.items()]
