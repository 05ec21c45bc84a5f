"""What tuning trials came to: the candidates of each loss at each rate, best first."""

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from lossbench import records
from lossbench.analysis.study import is_wanted
from lossbench.analysis.summary import Evidence, Summary, fill_columns, summarise_trials
from lossbench.analysis.tuning import rank_settings
from lossbench.config.choices import Experiment
from lossbench.config.protocol import Contender, get_contender
from lossbench.seeds import trial_id

Outcomes = dict[tuple[Contender, float], list["Outcome"]]
"""By contender and rate, what became of its candidates, best first."""
Rounds = Generator[list[Experiment], None, Outcomes]
"""Yields experiments to be trained, and returns what all of them came to."""
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


def collect_outcomes(tuning: Sequence[Experiment]) -> Outcomes:
    """Read the records of tuning trials: by contender and rate, what became of the candidates, best first."""
    summaries = _summarise_by_trial(tuning)
    groups: Outcomes = defaultdict(list)
    for candidate in tuning:
        for trial in candidate.list_trials()[:: len(candidate.seeds)]:  # one of each rate
            groups[get_contender(candidate), trial.corruption_rate].append(
                Outcome(candidate, summaries.get(trial_id(trial)))
            )
    return {key: _sorted(group) for key, group in groups.items()}


def _sorted(outcomes: Sequence[Outcome]) -> list[Outcome]:
    order = {
        id(summary): place for place, summary in enumerate(rank_settings([o.summary for o in outcomes if o.summary]))
    }
    return sorted(outcomes, key=lambda o: (order.get(id(o.summary), len(order)), o.lr))


def _summarise_by_trial(tuning: Sequence[Experiment]) -> dict[str, Summary]:
    """Each trial's summary. Curves and scores are left alone: what is chosen by stands in the table of trials."""
    import pandas as pd

    ids = {trial_id(trial) for experiment in tuning for trial in experiment.list_trials()}
    tables = [
        records.read_columns(folder, records.TRIALS, is_wanted) for folder in dict.fromkeys(e.folder for e in tuning)
    ]
    trials = fill_columns(pd.concat([table.to_pandas() for table in tables], ignore_index=True))
    trials = trials[trials["trial"].isin(ids) & ~trials["status"].isin(records.UNTRAINED)]
    summaries = summarise_trials(trials, Evidence({}, {})) if len(trials) else []
    return {trial: summary for summary in summaries for trial in (*summary.trials, *summary.diverged)}


def count_losses(candidates: Sequence[Experiment]) -> str:
    """Say how many losses these are, each with its weighting, corruption and data."""
    n = len({get_contender(one) for one in candidates})
    return "1 loss" if n == 1 else f"{n} losses"
