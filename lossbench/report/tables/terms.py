"""Terms of tables and verdicts: the one source for tables, `lossbench explain`, notebooks and docs/terms.md."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lossbench.errors import make_unknown


@dataclass(frozen=True)
class Term:
    """A word that a table shows.

    name: as it is written in text. meaning: one line. definition: the formula, or the exact rule. reading: how to read
    a value. heading: of the column, where it is always the same. plain: its heading says enough, so that no footnote
    points to it.
    """

    name: str
    meaning: str
    definition: str
    reading: str
    heading: str = ""
    plain: bool = False

    @property
    def slug(self) -> str:
        """The name as one word, to be typed: `overfitting-gap`."""
        return make_slug(self.name)


def make_slug(text: str) -> str:
    """Return `text` as one lower-case word with dashes; the tick as the word for it.

    >>> make_slug("P(better)")
    'p-better'
    """
    return re.sub(r"\W+|_", "-", text.lower().replace("✓", " recommended ")).strip("-")


_TERMS = (
    Term(
        "loss",
        "the training loss, with its weighting if it has one: `loss + weighting`",
        "Trials that differ only in the loss share data, initial weights, batch order and corrupted examples.",
        "`huber (delta=2.0)` is huber with a field set; `lossbench describe huber` tells the formula.",
        "loss",
        plain=True,
    ),
    Term(
        "weighting",
        "how the examples' losses are weighted before they are averaged",
        "The batch's loss is the weighted mean of the losses per example.",
        "`lossbench weightings` lists all; `lossbench describe NAME` tells what one does.",
        "weighting",
        plain=True,
    ),
    Term(
        "setting",
        "a setting that differs between the table's rows",
        "Trials that differ in a setting are never averaged; each value has a row.",
        "Compare rows that have the same settings.",
        plain=True,
    ),
    Term(
        "tuned fields",
        "the loss's own fields that tuning chose, such as `delta=2`",
        "The search space of a loss may hold fields beside the learning rate; the choice is by validation.",
        "Fields at the edge of the search space may be better still beyond it.",
        "tuned\nfields",
        plain=True,
    ),
    Term(
        "learning rate",
        "the optimizer's step size; of a tuned loss the one that validation chose",
        "Each loss takes the best mean validation metric at the last epoch among the settings tried.",
        "Losses of different scale need different learning rates: compare tuned losses (`protocol=tuned`).",
        "learning\nrate",
        plain=True,
    ),
    Term(
        "corruption rate",
        "the share of training examples that are corrupted",
        "The same examples are corrupted for all losses of a seed, to the nearest whole example. Test data stay clean.",
        "0 is clean training data; 0.4 means that 40% of the training examples are wrong.",
        "corruption\nrate",
        plain=True,
    ),
    Term(
        "metric",
        "what trials are judged by on test data; never the loss itself",
        "The mean over seeds, followed by its 95% CI. ↓: lower is better. ↑: higher is better.",
        "`lossbench describe METRIC` tells the formula. Whether two losses differ is told by their difference only.",
        plain=True,
    ),
    Term(
        "last epoch",
        "the metric on test data after the last epoch",
        "The mean over seeds of trials that did not diverge, followed by its 95% CI.",
        "Verdicts are on this value: it needs no clean data to stop at the right epoch.",
        plain=True,
    ),
    Term(
        "best epoch",
        "the metric on test data at the epoch with the best validation metric",
        "The epoch is chosen on validation data, which are corrupted like the training data unless "
        "`validation=clean` (an oracle: in practice nobody has them).",
        "Much better than the last epoch: the loss overfits, and early stopping would help.",
        "best\nepoch",
        plain=True,
    ),
    Term(
        "difference",
        "how much better or worse a loss is than the baseline",
        "The relative change of an error, in percent, or the change of a score, in points (hundredths of a perfect "
        "score): the mean of the differences, paired by seed and test example, followed by its 95% CI. Errors are "
        "compared by their logarithm.",
        "-20% [-28,-12] against mse: the error is 20% lower than with mse, in the CI between 12% and 28%.",
        plain=True,
    ),
    Term(
        "verdict",
        "what the data show of a loss and the baseline: better, worse, equivalent or inconclusive",
        "On the last epoch, by paired t tests with Holm's correction for all pairs at the corruption rate. better, "
        "worse: different from 0. equivalent: within the ROPE. inconclusive: neither is shown. A CI is for one pair "
        "by itself, so it may exclude 0 where the verdict is inconclusive.",
        "better or worse: a real difference, not necessarily a large one. inconclusive: not enough data.",
        "verdict",
    ),
    Term(
        "recommended",
        "✓: no other loss is shown to be better by more than the ROPE, and no trial diverged",
        "One-sided paired t tests against each of the other L - 1 losses at (1 - confidence) / (L - 1).",
        "Usually several losses are recommended: the data do not tell them apart. The first row's lead is partly luck.",
        "✓",
        plain=True,
    ),
    Term(
        "P(better)",
        "the probability that the loss is better than the baseline at all",
        "From the t distribution of the difference, with a flat prior; not corrected for several pairs.",
        "0.5: no evidence either way; 0.99: almost certainly better, perhaps by very little.",
        "P(better)",
    ),
    Term(
        "still needed",
        "what would settle an inconclusive verdict, if the difference stayed as it is",
        "So many more seeds, from the two parts of the variance; `examples`: the test examples' part alone is too "
        "large for any number of seeds up to 1,000.",
        "12 seeds: run 12 more seeds. examples: only a larger test set helps.",
        "still\nneeded",
        plain=True,
    ),
    Term(
        "steps to target",
        "optimizer steps until the metric on test data first reaches the target",
        "Median over seeds; a seed that never arrives, or diverges, counts as infinite. Steps are as fine as the "
        "evaluations. The target stands above the table.",
        "Fewer is faster. `250 4/5`: 4 of 5 seeds arrived. –: fewer than half arrived.",
        "steps to\ntarget",
    ),
    Term(
        "target",
        "the value of the metric that steps to target waits for",
        "In a comparison 90% of the way from the baseline predictor to the best result at the lowest corruption rate; "
        "in a table of one run the task's share of the way from the baseline predictor to a perfect one.",
        "The same for all losses, so that their speed can be compared.",
    ),
    Term(
        "seconds to target",
        "training time until the target is reached",
        "Steps to target times the time per step. Time per trial is the trial's share of the stack it trained in.",
        "Losses that trained in one stack share its time: compare steps first.",
        "seconds to\ntarget",
        plain=True,
    ),
    Term(
        "seconds per trial",
        "training time of one trial",
        "Median over seeds of the trial's share of the stack it trained in.",
        "Losses that trained in one stack share its time.",
        "seconds\nper trial",
        plain=True,
    ),
    Term(
        "AULC",
        "area under the learning curve: the mean height of the test curve over all steps",
        "AULC = (1 / T) ∫ metric(t) dt over the T training steps, by the trapezoid rule; the mean over seeds.",
        "For an error, low means that the loss learned early and stayed good; for a score, high does.",
        "AULC",
    ),
    Term(
        "overfitting gap",
        "how much worse the last epoch is than the best epoch",
        "metric(last epoch) - metric(best epoch) on test data, signed so that + is worse; the mean over seeds.",
        "About 0: training longer does no harm. Large: the loss fits the corrupted examples in the end.",
        "overfitting\ngap",
    ),
    Term(
        "ease of tuning",
        "the share of the settings tried that are practically as good as the best one",
        "Settings whose metric on test data is within the ROPE of the best, divided by all settings tried.",
        "100%: any setting works. 10%: the loss needs careful tuning.",
        "ease of\ntuning",
    ),
    Term(
        "gradient norm",
        "the size of the gradient during training",
        "The median over training of the norm over all parameters, then the median over seeds.",
        "Untuned losses with very different norms take steps of different size under SGD, and clipping and weight "
        "decay act differently on them: tune before you compare.",
        "gradient\nnorm",
        plain=True,
    ),
    Term(
        "diverged",
        "how many trials ended with numbers that are not finite",
        "`2/5`: 2 of 5 trials. Means leave them out; verdicts and recommendations do not.",
        "Any divergence flatters the loss's other columns, and excludes it from the recommended losses.",
        "diverged",
        plain=True,
    ),
    Term(
        "degradation",
        "how much worse the last epoch is than without corruption",
        "Against corruption rate 0 with the same loss and seeds: percent of an error, or points of a score; + is "
        "worse.",
        "+0%: the loss does not mind the corruption at all.",
        "vs\nclean",
        plain=True,
    ),
    Term(
        "mean degradation",
        "the degradation as a mean over corruption rates",
        "The degradation at each corruption rate, by the trapezoid rule from 0 to the highest, divided by the highest.",
        "Low is robust. A robust loss may still be poor on clean data: see the metric at corruption rate 0.",
        "mean\ndegradation",
        plain=True,
    ),
    Term(
        "clean difference",
        "a loss compared with the baseline on clean training data",
        "The difference at corruption rate 0.",
        "What robustness costs where there is nothing to be robust against.",
        plain=True,
    ),
    Term(
        "breakdown rate",
        "the corruption rate from which on the loss is no better than the baseline predictor",
        "Where the metric crosses the baseline predictor's value, on a straight line between two corruption rates; or "
        "the first corruption rate at which all trials diverged.",
        "0.3: at a corruption rate of 0.3 or more the model is worth nothing. `> 0.4`: never, in what was run.",
        "breakdown\nrate",
    ),
    Term(
        "interaction",
        "the effect of a weighting on one loss, less its effect on the baseline loss",
        "A paired difference of differences, followed by its CI, in percent of an error or points of a score.",
        "0: the weighting helps both losses alike. For a score + helps this loss more; for an error - does.",
        "interaction",
    ),
    Term(
        "mean rank",
        "a loss's place by the metric, as a mean over data sets",
        "At each corruption rate; 1 is the best; a loss that diverged is last. Pairs are tested by Wilcoxon's "
        "signed-rank test with Holm's correction, all losses by Friedman's test. Seeds are not data sets.",
        "Losses whose mean ranks are close are not shown to differ.",
    ),
    Term(
        "performance profile",
        "`within 2x`: on what share of the subjects a loss reaches the target after at most twice the fewest steps",
        "A subject is a data set with a corruption and a corruption rate; those on which no loss arrives are not "
        "counted (Dolan, Moré, Benchmarking Optimization Software with Performance Profiles, 2002).",
        "`within 1x` is the share of subjects on which the loss is the fastest.",
    ),
    Term(
        "CI",
        "confidence interval: [low, high] around an estimate, 95% unless --confidence says otherwise",
        "variance = s²_seed / S + s²_example / m over S seeds and m test examples (or groups of them), with "
        "Satterthwaite's degrees of freedom.",
        "It covers other seeds and other test examples of the same data, not other data sets. Overlapping CIs do not "
        "mean that losses are equal: they share seeds and examples, so look at their difference.",
    ),
    Term(
        "ROPE",
        "region of practical equivalence: a difference that is too small to matter",
        "2% of an error, or 1 point of a score; `--rope` changes it.",
        "Differences within it are called equivalent, and never cost a recommendation.",
    ),
    Term(
        "baseline",
        "the loss that all others are compared with",
        "`--baseline LOSS`; otherwise the task's default loss if it is on record, else the first with a result.",
        "It is a loss; not to be confused with the baseline predictor.",
        plain=True,
    ),
    Term(
        "baseline predictor",
        "the best constant prediction, which ignores the input (scikit-learn's Dummy)",
        "For example the mean or median of the training targets, or the most frequent class.",
        "A model that is not better has learned nothing.",
    ),
    Term(
        "trial",
        "one training: a loss, its settings, a corruption rate and a seed",
        "Trials with the same settings train together as replicas of one stack.",
        "5 seeds, 4 losses and 4 corruption rates are 80 trials.",
        plain=True,
    ),
)  # fmt: skip
TERMS = {term.name: term for term in _TERMS}
"""All terms, by name."""


def find_term(text: str) -> Term:
    """Return the term called `text`, whatever its case, with spaces, underscores or dashes.

    Raises UnknownName, which tells the nearest one.
    """
    by_slug = {term.slug: term for term in _TERMS}
    if (slug := make_slug(text)) in by_slug:
        return by_slug[slug]
    raise make_unknown("term", slug or text, by_slug, "Terms")


def format_pointer(names: Iterable[str]) -> str:
    """Return the footnote that tells how to have the terms of a table explained: a command that can be copied."""
    slugs = [TERMS[name].slug for name in dict.fromkeys(names) if not TERMS[name].plain]
    return f"Terms: lossbench explain {' '.join(slugs)}" if slugs else "Terms: lossbench explain"
