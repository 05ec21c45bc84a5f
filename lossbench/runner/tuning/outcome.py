"""Outcomes of tuning trials: the candidates of each loss at each corruption rate, best first."""

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from lossbench import records
from lossbench.analysis.study import is_known_column
from lossbench.analysis.summary import Measurements, Summary, add_missing_columns, summarise_trials
from lossbench.analysis.tuning import rank_settings
from lossbench.config.choices import Experiment
from lossbench.config.protocol import Contender, get_contender
from lossbench.seeds import trial_id

Outcomes = dict[tuple[Contender, float], list["Outcome"]]
"""The outcomes of a contender's candidates, best first, by contender and corruption rate."""
Rounds = Generator[list[Experiment], None, Outcomes]
"""Yields experiments to be trained, and returns the outcomes of all of them."""
Announce = Callable[[str], None]
"""Passes one line on to people."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a candidate's tuning trials at one corruption rate; None if none of them could be trained."""

    candidate: Experiment
    summary: Summary | None

    @property
    def lr(self) -> float:
        """The candidate's learning rate."""
        return self.candidate.template.optimizer.lr


def collect_outcomes(tuning: Sequence[Experiment]) -> Outcomes:
    """Read the records of tuning trials and return the outcomes of the candidates, best first."""
    summaries = _summarise_by_trial(tuning)
    # 1. one trial of a candidate at each corruption rate leads to the summary of all its seeds
    groups: Outcomes = defaultdict(list)
    for candidate in tuning:
        for trial in candidate.list_trials()[:: len(candidate.seeds)]:
            outcome = Outcome(candidate, summaries.get(trial_id(trial)))
            groups[get_contender(candidate), trial.corruption_rate].append(outcome)
    # 2. best first; candidates without a summary last; of equal ones the lower learning rate first
    ranked: Outcomes = {}
    for key, group in groups.items():
        best_first = rank_settings([outcome.summary for outcome in group if outcome.summary])
        places = {id(summary): place for place, summary in enumerate(best_first)}
        ranked[key] = sorted(group, key=lambda o: (places.get(id(o.summary), len(places)), o.lr))
    return ranked


def _summarise_by_trial(tuning: Sequence[Experiment]) -> dict[str, Summary]:
    """Return each trial's summary, from the table of trials alone: choosing needs neither curves nor scores."""
    import pandas as pd

    ids = {trial_id(trial) for experiment in tuning for trial in experiment.list_trials()}
    tables = [
        records.read_columns(folder, records.TRIALS, is_known_column)
        for folder in dict.fromkeys(e.folder for e in tuning)
    ]
    trials = add_missing_columns(pd.concat([table.to_pandas() for table in tables], ignore_index=True))
    trials = trials[trials["trial"].isin(ids) & ~trials["status"].isin(records.UNTRAINED)]
    summaries = summarise_trials(trials, Measurements({}, {})) if len(trials) else []
    return {trial: summary for summary in summaries for trial in (*summary.trials, *summary.diverged)}


def count_losses(candidates: Sequence[Experiment]) -> str:
    """Return "3 losses": the number of contenders, each a loss with its weighting, corruption and data."""
    n = len({get_contender(candidate) for candidate in candidates})
    return "1 loss" if n == 1 else f"{n} losses"
