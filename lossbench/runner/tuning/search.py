"""Tuning by Optuna in place of a grid: a search per loss and rate, whose candidates train together round by round."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.config.choices import Experiment, make_choice
from lossbench.config.protocol import Protocol, Range, Space, get_contender, replace_lr, round_value
from lossbench.errors import InvalidValue
from lossbench.runner.tuning.outcome import Outcome, Rounds, Tell, collect_outcomes, count_losses
from lossbench.seeds import hash_values

if TYPE_CHECKING:
    import optuna


def tune_by_search(bases: Sequence[Experiment], protocol: Protocol, tell: Tell) -> Rounds:
    """Try what Optuna proposes. Every loss gets the same number of candidates at each rate.

    bases: one experiment per loss, of which learning rate and fields are left open.
    """
    searches = [Search(base, protocol) for one in bases for base in _by_rate(one, protocol)]
    tell(_describe(bases, protocol))
    tuning: dict[Experiment, None] = {}
    for begun in range(0, protocol.search, protocol.batch):
        new = [one for s in searches for one in s.ask(min(protocol.batch, protocol.search - begun))]
        tuning |= dict.fromkeys(new)
        yield list(dict.fromkeys(new))
        found = collect_outcomes(list(dict.fromkeys(new)))
        for search in searches:
            search.tell(found[get_contender(search.base), search.base.rates[0]])
    return collect_outcomes(list(tuning))


def _by_rate(base: Experiment, protocol: Protocol) -> list[Experiment]:
    tuning = protocol.make_tuning_experiment(base)
    return [replace(tuning, rates=(rate,)) for rate in tuning.rates]


class Search:
    """The search of one loss at one rate: Optuna's tree-structured Parzen estimator, seeded."""

    def __init__(self, base: Experiment, protocol: Protocol) -> None:
        optuna = _optuna()
        self.base = base
        self.lrs = protocol.lrs[0], protocol.lrs[-1]
        self.space = protocol.get_search_space(base.template.loss.name)
        # as candidates train together, each is asked for before the others are known: that is what the liar is for
        seed = int(hash_values("search", base.template, base.rates)[:8], 16)
        self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True))
        self.asked: list[tuple[Any, Experiment]] = []

    def ask(self, n: int) -> list[Experiment]:
        """The next candidates."""
        trials = [self.study.ask() for _ in range(n)]
        self.asked = [(trial, self._candidate(trial)) for trial in trials]
        return [candidate for _, candidate in self.asked]

    def _candidate(self, trial: "optuna.Trial") -> Experiment:
        lr = round_value(trial.suggest_float("lr", *self.lrs, log=True))
        own = {name: _suggested(trial, name, space) for name, space in self.space.items()}
        return replace_lr(_with_fields(self.base, own), lr)

    def tell(self, found: Sequence[Outcome]) -> None:
        """What the candidates came to: the mean validation metric, or failure where a trial of theirs diverged."""
        values = {outcome.candidate: _value(outcome) for outcome in found}
        for trial, candidate in self.asked:
            value = values[candidate]
            self.study.tell(trial, value, state=None if value is not None else _optuna().trial.TrialState.FAIL)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InvalidValue("protocol.search needs Optuna: pip install 'lossbench[search]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _suggested(trial: "optuna.Trial", name: str, space: Space) -> Any:
    if not isinstance(space, Range):
        return trial.suggest_categorical(name, space)
    if space.whole:
        return trial.suggest_int(name, int(space.low), int(space.high), log=space.log)
    return round_value(trial.suggest_float(name, space.low, space.high, log=space.log))


def _with_fields(base: Experiment, own: Mapping[str, Any]) -> Experiment:
    if not own:
        return base
    template = base.template
    loss = make_choice("loss", {"name": template.loss.name, **template.loss.fields, **own}, template.task.name)
    return replace(base, template=replace(template, loss=loss))


def _value(outcome: Outcome) -> float | None:
    """To be minimised."""
    summary = outcome.summary
    if summary is None or summary.n_diverged or not np.isfinite(summary.validation):
        return None
    return -summary.validation if summary.higher_is_better else summary.validation


def _describe(bases: Sequence[Experiment], protocol: Protocol) -> str:
    losses, (low, *_, high) = count_losses(bases), protocol.lrs
    return (
        f"Searching {losses}: {protocol.search} candidates each, learning rates from {low:g} to {high:g}, "
        f"on {protocol.tuning_seeds} seeds."
    )
