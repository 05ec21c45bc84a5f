"""The table of spaces and encodings is complete, and the only place that names single members."""

import ast

import pytest
import torch
from modules import parse_modules

from lossbench.interfaces.encodings import ENCODINGS, Kind, draw_raw
from lossbench.interfaces.guards import Inputs
from lossbench.interfaces.spaces import SPACES, draw_extremes, find_space
from lossbench.types import Encoding, Space

TABLE = {"lossbench.types", "lossbench.interfaces.encodings", "lossbench.interfaces.spaces"}
CONVERTING = "lossbench.tasks."
"""Tasks convert to single spaces and encodings: that is their business."""
DECLARING = ("lossbench.losses.", "lossbench.weightings.")
"""Losses and weightings say what they take, as class facts of these names, and nothing else of single members."""
FACTS = {"space", "encoding", "encodings"}


def find_names(tree, declares):
    """Return the single members that a module names, other than as class facts where it may declare them."""
    allowed = set()
    for node in ast.walk(tree) if declares else ():
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
                if any(isinstance(t, ast.Name) and t.id in FACTS for t in targets):
                    allowed |= {id(n) for n in ast.walk(line)}
    return [f"line {n.lineno}: {ast.unparse(n)}" for n in ast.walk(tree) if is_member(n) and id(n) not in allowed]


def is_member(node):
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id in ("Space", "Encoding") and node.attr.isupper()
    if isinstance(node, ast.Compare):  # a member of a StrEnum equals its text, too
        sides = [node.left, *node.comparators]
        attributes = {n.attr for n in sides if isinstance(n, ast.Attribute)}
        texts = [n.value for side in sides for n in ast.walk(side) if isinstance(n, ast.Constant)]
        return bool(attributes & FACTS) and any(text in [*Space, *Encoding] for text in texts)
    return False


def test_there_is_an_entry_for_each():
    assert (list(SPACES), list(ENCODINGS)) == (list(Space), list(Encoding))


def test_no_other_module_names_single_members():
    found = {
        module: names
        for module, tree in parse_modules().items()
        if module not in TABLE and not module.startswith(CONVERTING)
        if (names := find_names(tree, module.startswith(DECLARING)))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("if loss.space is Space.LOGIT: ...", 1),
        ("TAKES = {Space.LOGIT: 1, Encoding.INDEX: 2}", 2),
        ("match e:\n    case Encoding.INDEX: ...", 1),
        ("if loss.space == 'logit': ...", 1),
        ("if loss.encoding in ('index', 'one_hot'): ...", 1),
        ("class A:\n    space = Space.LOGIT\n    encodings: X = (Encoding.INDEX,)", 0),
        ("class A:\n    def f(self):\n        space = Space.LOGIT", 1),
        ("def f(space: Space, encoding: Encoding): ...", 0),
    ],
)
def test_names_are_found(text, found):
    assert len(find_names(ast.parse(text), declares=True)) == found
    assert len(find_names(ast.parse(text), declares=False)) >= found


@pytest.mark.parametrize("encoding", Encoding)
def test_targets_of_classes_are_what_their_zeros_and_ones_are(encoding):
    facts = ENCODINGS[encoding]
    if facts.hot is None:
        assert not facts.plain
        return
    target = facts.draw(torch.Generator().manual_seed(0))
    hot = facts.hot(target)
    assert set(hot.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(facts.from_hot(hot), target)
    assert not facts.exclusive or hot.sum(-1).eq(1).all()


@pytest.mark.parametrize("encoding", Encoding)
def test_random_targets_pass_their_guard_and_have_one_kind_of_space(encoding):
    facts = ENCODINGS[encoding]
    spaces = [space for space in SPACES.values() if facts.kind in space.kinds]
    assert spaces
    for space in spaces:
        draw = torch.Generator().manual_seed(0)
        prediction, target = space.apply_link(space.draw(draw), facts.exclusive), facts.draw(draw)
        assert prediction.shape[0] == target.shape[0]
        given = Inputs(prediction, target, facts.exclusive)
        doubts = [*space.guard(given), *facts.guard(given)]
        assert not any(doubt.wrong.any() for doubt in doubts)


@pytest.mark.parametrize(
    ("kind", "space"),
    [
        (Kind.TRANSCRIPT, Space.SEQUENCE_LOGIT),
        (Kind.TEXT, Space.NEXT_TOKEN),
        (Kind.LABELS, Space.LOGIT),  # which needs no link, as probabilities do
        (Kind.BOX, Space.BOX_XYXY),
    ],
)
def test_a_kind_has_a_first_space(kind, space):
    assert find_space(kind) is space


@pytest.mark.parametrize("space", Space)
def test_extremes_are_in_the_space(space):
    facts = SPACES[space]
    for encoding in (e for e in Encoding if ENCODINGS[e].kind in facts.kinds):
        prediction, target = draw_extremes(space, encoding)
        assert prediction.shape[1:] == facts.shape
        assert len(prediction) == len(target)
        assert prediction.isfinite().all()


def test_raw_targets_are_those_of_the_first_encoding_that_data_sets_have():
    draw = torch.Generator().manual_seed(0)
    assert draw_raw((Encoding.ONE_HOT, Encoding.INDEX), 6, 3, 3, draw).tolist() == [0, 1, 2, 0, 1, 2]
    assert draw_raw((Encoding.VALUE,), 6, 2, 2, draw).shape == (6, 2)
