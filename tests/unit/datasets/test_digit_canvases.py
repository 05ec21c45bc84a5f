"""Real digits on canvases, in lines and on photographs: targets are what was pasted, and splits share no digit."""

from itertools import pairwise

import numpy as np
import pytest
from commands import run_command
from scipy import stats
from sklearn.datasets import load_digits
from stack.conftest import make_trials  # noqa: F401

from lossbench import datasets, registry
from lossbench.datasets.digit_canvases import find_free_places
from lossbench.errors import InvalidValue
from lossbench.training.data import prepare
from lossbench.types import PADDING

NAMES = ("digit_canvases", "digit_boxes", "digit_lines")
PIXELS, LABELS = load_digits(return_X_y=True)
IMAGES = (PIXELS / 16).reshape(-1, 8, 8)
MARGIN = 1e-3  # of p values


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def drawings():
    return {name: datasets.get(name, n=600, random_state=5).draw() for name in NAMES}


def numbers(drawing):
    """The images that each row shows, by their numbers in scikit-learn: `[n, k]`."""
    pasted = drawing["pasted"]
    return pasted[:, None] if pasted.ndim == 1 else pasted[:, :, 0]


def test_loading_gives_what_was_drawn_cached_or_not(name, tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    data = datasets.get(name, n=40)
    drawing, first = data.draw(), data.load()
    monkeypatch.setattr(type(data), "draw", lambda self: pytest.fail("drawn again"))
    for examples in (first, data.load()):
        for part in ("inputs", "targets", "groups"):
            np.testing.assert_array_equal(getattr(examples, part), drawing[part])
            assert getattr(examples, part).dtype == drawing[part].dtype
    monkeypatch.setattr(type(data), "draw", lambda self: {k: v[:3] for k, v in drawing.items()})
    assert len(datasets.get(name, n=40, random_state=1).load().inputs) == 3  # another field, another drawing


HASHES = """
from hashlib import sha256
from lossbench import datasets
for name in ("digit_canvases", "digit_boxes", "digit_lines"):
    examples = datasets.get(name, n=40).load()
    print(sha256(examples.inputs.tobytes() + examples.targets.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_another_process_draws_the_same(tmp_path, monkeypatch, capsys):
    exec(HASHES)
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    there = run_command(tmp_path, "-c", HASHES)
    assert there.returncode == 0, there.stderr
    assert there.stdout == capsys.readouterr().out
    assert len(set(there.stdout.split())) == 3


def test_states_draw_differently(name):
    one, other = (datasets.get(name, n=20, random_state=state).draw() for state in (0, 1))
    assert (one["inputs"] != other["inputs"]).reshape(20, -1).any(1).all()
    assert (numbers(one) != numbers(other)).any()


SIZES = {
    "digit_canvases": ((4000, 1, 24, 24), (4000, 10), np.int64, tuple("0123456789")),
    "digit_boxes": ((4000, 3, 32, 32), (4000, 4), np.float64, ()),
    "digit_lines": ((4000, 1, 12, 64), (4000, 8), np.int64, tuple("0123456789")),
}


def test_sizes_and_types(name):
    inputs, targets, kind, class_names = SIZES[name]
    examples = datasets.get(name).load()
    assert (examples.inputs.shape, examples.targets.shape) == (inputs, targets)
    assert (examples.inputs.dtype, examples.targets.dtype) == (np.float32, kind)
    assert examples.class_names == class_names
    assert 0 <= examples.inputs.min() < 0.05
    assert 0.95 < examples.inputs.max() <= 1


@pytest.mark.slow
def test_pools_are_equally_large_and_share_no_image(drawings, name):
    drawing = drawings[name]
    assert np.bincount(drawing["groups"]).tolist() == [30] * 20
    seen = [set(numbers(drawing)[drawing["groups"] == pool].ravel()) - {-1} for pool in range(20)]
    assert sum(map(len, seen)) == len(set.union(*seen))
    # nor two images that look the same under two numbers
    assert len(np.unique(PIXELS, axis=0)) == len(PIXELS)
    for pool in seen:
        assert set(LABELS[list(pool)]) <= set(range(10))


@pytest.mark.slow
def test_every_pool_has_every_digit():
    drawing = datasets.get("digit_canvases", n=6000).draw()
    held = [set(numbers(drawing)[drawing["groups"] == pool].ravel()) - {-1} for pool in range(20)]
    for pool in held:
        counts = np.bincount(LABELS[list(pool)], minlength=10)
        assert counts.min() >= 8
        assert counts.max() <= 10
    assert len(set.union(*held)) == 1797  # and all images are used


def test_rows_are_rounded_down_to_full_pools(name):
    assert len(datasets.get(name, n=59).draw()["inputs"]) == 40


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multilabel", "boxes", "ctc"])
def test_splits_share_no_image(task, make_trials):  # noqa: F811
    trials = make_trials(f"task={task}", "rates=[0]", "seeds=4")
    data = registry.datasets.build(trials[0].data)
    assert data.load().groups is not None
    prepared, _ = prepare(trials)
    images, divisions = numbers(data.draw()), set()
    for variant in prepared.variants:
        rows = (variant.train.inputs, variant.validation.inputs, prepared.test)
        parts = [set(images[some].ravel()) - {-1} for some in rows]
        assert min(map(len, parts)) > 100
        assert len(set.union(*parts)) == sum(map(len, parts))
        assert sum(map(len, rows)) == len(images)  # pools are equally large: no row is dropped
        divisions.add(frozenset(parts[0]))
    assert len(divisions) == 4


# on canvases


def test_a_canvas_is_its_digits_none_of_which_hides_another(drawings):
    drawing = drawings["digit_canvases"]
    for canvas, target, row in zip(drawing["inputs"], drawing["targets"], drawing["pasted"], strict=True):
        pasted = row[row[:, 0] >= 0]
        wanted, inked = np.zeros((24, 24)), np.zeros((24, 24), int)
        for number, down, across in pasted:
            wanted[down : down + 8, across : across + 8] += IMAGES[number]
            inked[down : down + 8, across : across + 8] += IMAGES[number] > 0
        np.testing.assert_array_equal(canvas[0], wanted)
        assert inked.max() == 1
        assert set(np.flatnonzero(target)) == set(LABELS[pasted[:, 0]])


def test_digits_may_touch(drawings):
    frames = drawings["digit_canvases"]["pasted"]
    near = [abs(a - b).max() < 8 for row in frames for a, b in pairwise(row[row[:, 0] >= 0][:, 1:])]
    assert 0.05 < np.mean(near) < 0.6  # frames overlap, ink does not


@pytest.mark.slow
def test_counts_on_a_canvas_are_uniform():
    n_pasted = (numbers(datasets.get("digit_canvases", digits=3).draw()) >= 0).sum(1)
    assert set(n_pasted) == {1, 2, 3}
    assert stats.chisquare(np.bincount(n_pasted)[1:]).pvalue > MARGIN


@pytest.mark.slow
@pytest.mark.parametrize("imbalance", [1.0, 10.0, 100.0])
def test_digits_are_drawn_as_imbalanced_as_asked(imbalance):
    images = numbers(datasets.get("digit_canvases", imbalance=imbalance).draw())
    counts = np.bincount(LABELS[images[images >= 0]], minlength=10)
    wanted = np.array([imbalance ** (-digit / 9) for digit in range(10)])
    assert stats.chisquare(counts, wanted / wanted.sum() * counts.sum()).pvalue > MARGIN
    slope = np.polyfit(np.arange(10), np.log(counts), 1, w=np.sqrt(counts))[0]
    assert np.exp(-9 * slope) == pytest.approx(imbalance, rel=0.25)


def test_places_on_a_canvas_reach_its_edges(drawings):
    places = drawings["digit_canvases"]["pasted"][:, 0, 1:]  # of the first digit, which is free to go anywhere
    assert (places.min(), places.max()) == (0, 16)
    assert stats.chisquare(np.bincount(places.ravel())).pvalue > MARGIN


def test_a_fourth_digit_always_finds_room():
    generator, full = np.random.default_rng(0), np.ones((8, 8))
    for _ in range(300):
        canvas = np.zeros((24, 24))
        for _ in range(4):
            down, across = generator.choice(find_free_places(canvas, full))
            canvas[down : down + 8, across : across + 8] += 1
        assert canvas.max() == 1


# in lines


def test_a_line_is_its_digits_from_left_to_right(drawings):
    drawing = drawings["digit_lines"]
    for line, target, row in zip(drawing["inputs"], drawing["targets"], drawing["pasted"], strict=True):
        pasted = row[row[:, 0] >= 0]
        wanted = np.zeros((12, 64))
        for number, down, across in pasted:
            frame = wanted[down : down + 8, across : across + 8]
            frame[:] = np.maximum(frame, IMAGES[number])
        np.testing.assert_array_equal(line[0], wanted)
        np.testing.assert_array_equal(target[: len(pasted)], LABELS[pasted[:, 0]] + 1)
        assert (target[len(pasted) :] == PADDING).all()
        assert 0 <= pasted[0, 2] <= pasted[-1, 2] <= 64 - 8
        assert set(np.diff(pasted[:, 2])) <= {7, 8, 9, 10, 11}


@pytest.mark.slow
def test_lengths_digits_gaps_and_heights_are_uniform():
    pasted = datasets.get("digit_lines").draw()["pasted"]
    there = pasted[..., 0] >= 0
    lengths = np.bincount(there.sum(1))
    assert lengths[:2].sum() == 0
    assert len(lengths) == 7
    gaps = np.concatenate([np.diff(row[some, 2]) - 7 for row, some in zip(pasted, there, strict=True)])
    for counts in (lengths[2:], np.bincount(LABELS[pasted[there][:, 0]]), np.bincount(gaps)):
        assert stats.chisquare(counts).pvalue > MARGIN
    assert stats.chisquare(np.bincount(pasted[there][:, 1], minlength=5)).pvalue > MARGIN


@pytest.mark.parametrize(("shortest", "longest"), [(1, 1), (3, 3), (1, 10)])
def test_lines_fit_their_width_whatever_their_lengths(shortest, longest):
    drawing = datasets.get("digit_lines", n=400, shortest=shortest, longest=longest).draw()
    width = drawing["inputs"].shape[-1]
    assert width % 8 == 0
    assert 0 <= width - (8 * longest + 3 * (longest - 1)) < 8
    assert drawing["targets"].shape == (400, longest + 2)
    n_tokens = (drawing["targets"] != PADDING).sum(1)
    assert (n_tokens.min(), n_tokens.max()) == (shortest, longest)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("digit_canvases", {"n": 19}),
        ("digit_canvases", {"digits": 5}),
        ("digit_canvases", {"digits": 0}),
        ("digit_canvases", {"digits": 2.0}),
        ("digit_canvases", {"imbalance": 0.5}),
        ("digit_canvases", {"imbalance": float("nan")}),
        ("digit_canvases", {"random_state": -1}),
        ("digit_boxes", {"n": 0}),
        ("digit_boxes", {"smallest": 3}),
        ("digit_boxes", {"smallest": 21}),
        ("digit_boxes", {"largest": 33}),
        ("digit_boxes", {"random_state": -1}),
        ("digit_lines", {"n": 19}),
        ("digit_lines", {"shortest": 0}),
        ("digit_lines", {"shortest": 7}),
        ("digit_lines", {"longest": True}),
        ("digit_lines", {"longest": 0}),
        ("digit_lines", {"random_state": -1}),
    ],
)
def test_fields_out_of_range_are_refused(name, fields):
    with pytest.raises(InvalidValue, match=f"'{next(iter(fields))}' parameter of Digit"):
        datasets.get(name, **fields)
