"""Looking at what there is: `describe`, and lists by family."""

import json

import pytest
import torch
from hydra import compose, initialize_config_module
from rich.cells import cell_len

from lossbench.cli.hydra.store import register_choices
from lossbench.config.resolve import make_plan
from lossbench.registry import ALL, losses
from lossbench.report.describe.descriptions import describe_class

EXAMPLES = {name: describe_class(losses, entry)["example"] for name, entry in losses.entries().items()}
COMMANDS = {losses.find(name).family: text for name, text in EXAMPLES.items() if text.startswith("lossbench ")}
SCRIPTS = {name: text for name, text in EXAMPLES.items() if text.startswith("import ")}


class TestDescribe:
    def test_a_loss(self, lossbench):
        code, out, err = lossbench("describe", "huber")
        assert (code, err) == (0, "")
        for part in (
            "huber  loss, regression", "ℓ(r) = r²/2 if |r| ≤ δ,", "delta: float = 1.0, in the range (0, inf)",
            "InvalidValue if the shapes differ or delta is not positive", "convex, robust; not bounded",
            "torch.nn.HuberLoss", "https://doi.org/10.1214/aoms/1177703732", "lossbench task=regression loss=huber",
        ):  # fmt: skip
            assert part in out

    def test_a_name_of_two_kinds_is_shown_in_both(self, lossbench):
        out = lossbench("describe", "focal").out
        assert "focal  loss, classification" in out
        assert "focal  weighting" in out

    @pytest.mark.parametrize(
        ("given", "ours"),
        [("torch.nn.HuberLoss", "huber"), ("BCEWithLogitsLoss", "bce"), ("InfoNCE", "nt_xent"), ("Huber", "huber")],
    )
    def test_names_of_other_libraries_lead_to_ours(self, lossbench, given, ours):
        code, out, _ = lossbench("describe", given)
        assert code == 0
        assert [line.split()[0] for line in out.splitlines() if f"({given!r} elsewhere)" in line] == [ours]

    @pytest.mark.parametrize("columns", [80, 120])
    def test_everything_fits(self, lossbench, monkeypatch, columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        code, out, err = lossbench("describe", *(name for names in ALL.values() for name in names.names()))
        assert (code, err) == (0, "")
        assert max(map(cell_len, out.splitlines())) <= columns
        assert "…]" not in out

    def test_json(self, lossbench):
        (found,) = json.loads(lossbench("describe", "huber", "--json").out)
        assert (found["kind"], found["latex"][:5]) == ("loss", "\\ell(")
        assert found["weightings"]["regression"]

    @pytest.mark.parametrize(
        ("line", "parts"),
        [
            ("describe hubre", ["Nothing is called 'hubre'", "Nearest: huber"]),
            ("describe", ["Write lossbench describe NAME"]),
            ("describe huber --all", ["Write lossbench describe NAME", "'huber --all'"]),
            ("losses --all", ["at most one task", "'--all'"]),
            ("losses --task", ["at most one task"]),
            ("weightings --task nonsense", ["Unknown task 'nonsense'"]),
        ],
    )
    def test_what_cannot_be_shown_is_told_in_one_line(self, lossbench, line, parts):
        code, out, err = lossbench(*line.split())
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert all(part in err for part in parts)


class TestLists:
    @pytest.mark.parametrize("columns", [80, 120, 160])
    @pytest.mark.parametrize("task", [(), ("--task", "binary")])
    def test_losses_by_family_fit(self, lossbench, monkeypatch, columns, task):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = lossbench("losses", *task).out.splitlines()
        assert max(map(cell_len, lines)) <= columns
        starts = [line.split("  ")[0].strip() for line in lines]
        assert starts.index("margin") < starts.index("hinge") < starts.index("overlap") < starts.index("dice")

    @pytest.mark.parametrize("verb", ALL)
    def test_a_task_is_said_in_any_way(self, lossbench, verb):
        said = [lossbench(verb, *way).out for way in (("binary",), ("--task", "binary"), ("--task=binary",))]
        assert said[0] == said[1] == said[2]

    def test_json_has_everything(self, lossbench):
        found = {entry["name"]: entry for entry in json.loads(lossbench("losses", "--task", "binary", "--json").out)}
        dice = found["dice"]
        assert (dice["family"], dice["takes"], dice["target"]) == ("overlap", "probabilities", "0 or 1 each")
        assert dice["facts"]["batch_level"] is True
        assert {"pitfall", "aliases", "head", "requires"} <= dice.keys()


@pytest.mark.parametrize("family", COMMANDS)
def test_an_example_is_a_command_that_can_be_composed(family):
    """Of each family one; that all losses train is for other tests."""
    register_choices()
    with initialize_config_module("lossbench.configs", version_base="1.3"):
        assert make_plan(compose("config", overrides=COMMANDS[family].split()[1:])).experiments


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_in_python_runs(name):
    scope = {}
    exec(SCRIPTS[name], scope)
    assert torch.isfinite(scope["prediction"].grad).all()
