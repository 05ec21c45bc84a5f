"""Every heading has a term, every term an explanation, and no table more than five footnotes."""

import itertools

import pytest
from rich.console import Group

from lossbench.analysis import study, summarise
from lossbench.analysis.comparison import ComparisonOptions, compare
from lossbench.errors import UnknownName
from lossbench.records import load, save
from lossbench.report.tables.comparison import render_comparisons
from lossbench.report.tables.grid import Grid, Pointer
from lossbench.report.tables.summaries import render_summaries
from lossbench.report.tables.terms import TERMS, find_term, format_pointer, make_slug
from lossbench.report.tables.text import render_text
from lossbench.seeds import FIRST_TUNING_SEED

WIDTHS = (80, 100, 120)
MOST = 5


def grid(losses=("huber", "mae", "mse"), rates=(0.0, 0.4), seeds=range(3), **changes):
    return [
        {"loss": n, "corruption_rate": r, "seed": s} | changes for n, r, s in itertools.product(losses, rates, seeds)
    ]


STUDIES = {
    "plain": grid(),
    "one seed": grid(seeds=[0]),
    "clean": grid(rates=[0.0]),
    "oracle": grid(validation="clean"),
    "scores": grid(metric="auroc", transform="none", higher_is_better=True, perfect=1.0, target=0.8),
    "tuned": [c | {"lr": lr, "seed": c["seed"] + FIRST_TUNING_SEED} for lr in (0.001, 0.01) for c in grid()]
    + grid(lr=0.01),
    "weightings": [c | {"weighting": w} for w in ("none", "irls") for c in grid(["mae", "mse"])],
    "data sets": [c | {"data": d} for d in ("a", "b", "c") for c in grid()],
    "many": grid([f"loss_{i}" for i in range(30)], seeds=range(2)),
    "everything wrong": [
        *grid(["mae"], seeds=range(4), residual_scale=0.01),
        *grid(["mse"], rates=[0.0, 0.2], residual_scale=0.01),
        *grid(["mse"], rates=[0.4], status="diverged"),
        *grid(["huber"], rates=[0.4], lr=0.1, realised_rate=0.41),
        *grid(["tukey"], status="failed", reason="out of memory"),
        *grid(["msle"], rates=[0.4], status="skipped", reason="negative targets"),
    ],
}


@pytest.fixture(params=list(STUDIES))
def parts(request, tmp_path, made_up):
    """What is printed of a made-up study, part by part: the comparison, and the table of its runs."""
    save(tmp_path, [made_up(**change) for change in STUDIES[request.param]], {})
    comparisons = compare(study.read_study([tmp_path]), ComparisonOptions())
    return [flatten(render_comparisons(comparisons)), flatten(render_summaries(summarise([load(tmp_path)])))]


def flatten(group):
    return [leaf for part in group.renderables for leaf in (flatten(part) if isinstance(part, Group) else [part])]


def test_every_heading_has_a_term_that_is_explained(parts):
    columns = [column for part in itertools.chain(*parts) if isinstance(part, Grid) for column in part.columns]
    assert columns
    for column in columns:
        assert TERMS[column.term].meaning
        assert column.heading
        assert len(column.heading.split("\n")) <= 2


@pytest.mark.parametrize("width", WIDTHS)
def test_no_table_has_more_than_five_footnotes(parts, width):
    """Footnotes are what stands below a comparison's or a run's last table; the last names the terms of its columns."""
    for printed in parts:
        footnotes = []
        for part in printed:
            text = render_text(part, width)
            if isinstance(part, Grid):
                footnotes = []
            elif text:
                footnotes.append(text)
            if isinstance(part, Pointer):
                assert len(footnotes) <= MOST
                assert footnotes[-1].startswith("Terms: lossbench explain")
                footnotes = []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_pointer_names_terms_whose_columns_are_shown(parts, width):
    for printed in parts:
        grids = []
        for part in printed:
            if isinstance(part, Grid):
                grids.append(part)
            if isinstance(part, Pointer):
                shown = {make_slug(c.term) for each in grids for c in each.fit_columns(width)}
                assert set(" ".join(render_text(part, width).split()).split()[3:]) <= shown
                grids = []


def test_steps_to_target_are_not_explained_where_no_trial_arrived(tmp_path, made_up):
    save(tmp_path, [made_up(**change) for change in grid(target=1e-6)], {})
    text = render_text(render_summaries(summarise([load(tmp_path)])))
    assert "no trial reached the target ≤ 1e-06" in text
    assert "steps" not in text


@pytest.mark.parametrize("term", TERMS.values(), ids=lambda term: term.slug)
def test_a_term_is_found_however_it_is_written(term):
    assert term.meaning
    assert term.definition
    assert term.reading
    for text in (term.name, term.slug, term.name.upper(), term.slug.replace("-", "_")):
        assert find_term(text) is term


def test_an_unknown_term_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match=r"Unknown term 'overfiting-gap'\. Did you mean 'overfitting-gap'\?"):
        find_term("overfiting gap")


def test_the_pointer_leaves_out_what_is_plain():
    assert (
        format_pointer(["loss", "AULC", "AULC", "overfitting gap"]) == "Terms: lossbench explain aulc overfitting-gap"
    )
