"""Tuning by Optuna in place of a grid: a search per loss and corruption rate, whose candidates train in rounds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.config.choices import Experiment, make_choice
from lossbench.config.protocol import Protocol, Range, get_contender, replace_lr, round_value
from lossbench.errors import InvalidValue
from lossbench.runner.tuning.outcome import Announce, Outcome, Rounds, collect_outcomes, count_losses
from lossbench.seeds import hash_values

if TYPE_CHECKING:
    import optuna


def tune_by_search(bases: Sequence[Experiment], protocol: Protocol, announce: Announce) -> Rounds:
    """Train the candidates that Optuna proposes. Every loss gets the same number of candidates at each corruption rate.

    bases: one experiment per loss, in which learning rate and fields are still to be chosen.
    """
    searches = []
    for base in bases:
        tuning = protocol.make_tuning_experiment(base)
        searches += [Search(replace(tuning, rates=(rate,)), protocol) for rate in tuning.rates]
    low, *_, high = protocol.lrs
    announce(
        f"Searching {count_losses(bases)}: {protocol.search} candidates each, learning rates from {low:g} to {high:g}, "
        f"on {protocol.tuning_seeds} seeds."
    )
    candidates: dict[Experiment, None] = {}  # a dictionary as an ordered set: a proposal may come twice
    for n_asked in range(0, protocol.search, protocol.batch):
        n = min(protocol.batch, protocol.search - n_asked)
        new = list(dict.fromkeys(candidate for search in searches for candidate in search.ask(n)))
        candidates |= dict.fromkeys(new)
        yield new
        outcomes = collect_outcomes(new)
        for search in searches:
            search.tell(outcomes[get_contender(search.base), search.base.rates[0]])
    return collect_outcomes(list(candidates))


class Search:
    """The search of one loss at one corruption rate: Optuna's tree-structured Parzen estimator, seeded."""

    def __init__(self, base: Experiment, protocol: Protocol) -> None:
        optuna = _import_optuna()
        self.base = base
        self.lrs = protocol.lrs[0], protocol.lrs[-1]
        self.space = protocol.get_search_space(base.template.loss.name)
        # the candidates of a round are proposed before any of them is known: the constant liar spreads them
        seed = int(hash_values("search", base.template, base.rates)[:8], 16)
        self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True))
        self.pending: list[tuple[Any, Experiment]] = []  # Optuna's trials, and their candidates

    def ask(self, n: int) -> list[Experiment]:
        """Return the next candidates."""
        trials = [self.study.ask() for _ in range(n)]
        self.pending = [(trial, self._make_candidate(trial)) for trial in trials]
        return [candidate for _, candidate in self.pending]

    def _make_candidate(self, trial: "optuna.Trial") -> Experiment:
        lr = round_value(trial.suggest_float("lr", *self.lrs, log=True))
        fields: dict[str, Any] = {}
        for name, space in self.space.items():
            if not isinstance(space, Range):
                fields[name] = trial.suggest_categorical(name, space)
            elif space.whole:
                fields[name] = trial.suggest_int(name, int(space.low), int(space.high), log=space.log)
            else:
                fields[name] = round_value(trial.suggest_float(name, space.low, space.high, log=space.log))
        candidate = self.base
        if fields:
            t = self.base.template
            loss = make_choice("loss", {"name": t.loss.name, **t.loss.fields, **fields}, t.task.name)
            candidate = replace(candidate, template=replace(t, loss=loss))
        return replace_lr(candidate, lr)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Report the candidates' mean validation metrics to Optuna, or failure where one of the trials diverged."""
        values = {outcome.candidate: compute_objective(outcome) for outcome in outcomes}
        failed = _import_optuna().trial.TrialState.FAIL
        for trial, candidate in self.pending:
            value = values[candidate]
            self.study.tell(trial, value, state=None if value is not None else failed)


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InvalidValue("protocol.search needs Optuna: pip install 'lossbench[search]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def compute_objective(outcome: Outcome) -> float | None:
    """Return the mean validation metric, negated if higher is better, to be minimised; None if a trial diverged."""
    summary = outcome.summary
    if summary is None or summary.n_diverged or not np.isfinite(summary.validation):
        return None
    return -summary.validation if summary.higher_is_better else summary.validation
