"""Tuning as rounds of training: what to train next follows from the records of what was trained before."""

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from lossbench.config.choices import Experiment
from lossbench.config.protocol import Protocol, get_contender
from lossbench.config.resolve import ExperimentPlan
from lossbench.runner.reporter import Reporter
from lossbench.runner.trained import Trained
from lossbench.runner.tuning.grid import tune_by_grid
from lossbench.runner.tuning.outcome import Outcomes, Tell


def tune(
    asked: Sequence[ExperimentPlan], reporter: Reporter, train: Callable[[list[Experiment]], None]
) -> list[Trained]:
    """Tune round by round, those of all configurations together; what each of them reports, untuned ones as they are.

    train: is given the experiments of a round.
    """
    done = [Trained(one.experiments) for one in asked]
    going = {
        i: choose_settings(one.experiments, one.protocol, reporter.on_message)
        for i, one in enumerate(asked)
        if one.protocol.tunes
    }
    while going:
        wanted: dict[Experiment, None] = {}
        for i, rounds in list(going.items()):
            try:
                new = next(rounds)
                done[i] = replace(done[i], tuning=(*done[i].tuning, *new))
                wanted |= dict.fromkeys(new)
            except StopIteration as ended:
                done[i] = replace(done[i], experiments=tuple(ended.value))
                del going[i]
        if wanted:
            train(list(wanted))
    return done


def choose_settings(
    candidates: Sequence[Experiment], protocol: Protocol, tell: Tell = lambda text: None
) -> Generator[list[Experiment], None, list[Experiment]]:
    """Tune by the grid or by a search: yield experiments to be trained, and return those that are reported."""
    if protocol.search:
        from lossbench.runner.tuning.search import tune_by_search  # Optuna is an extra

        found = yield from tune_by_search(candidates, protocol, tell)
    else:
        found = yield from tune_by_grid(candidates, protocol, tell)
    return _choose(found, candidates, protocol.clean)


def _choose(found: Outcomes, candidates: Sequence[Experiment], clean: bool) -> list[Experiment]:
    """Each contender's choice at each rate, or that at rate 0 at all of its own, on the seeds that are asked for."""
    asked = {get_contender(one): one for one in candidates}
    chosen: dict[Experiment, list[float]] = defaultdict(list)
    for (key, rate), own in found.items():
        rates = asked[key].rates if clean else [rate]
        chosen[replace(own[0].candidate, seeds=asked[key].seeds, rates=())] += rates
    return [replace(one, rates=tuple(sorted(own))) for one, own in chosen.items()]
