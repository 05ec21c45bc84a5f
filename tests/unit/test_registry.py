"""The registry: one door for built-ins and third parties."""

import sys
import threading
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest

from lossbench import losses, registry
from lossbench.errors import InvalidValue, UnknownName
from lossbench.interfaces import Loss
from lossbench.registry import NameClash, Registry, fits_task, to_snake_case
from lossbench.types import Choice, Encoding, Space


class Example(Loss):
    """What the made-up losses share."""

    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE

    def __call__(self, prediction, target):
        return (prediction - target).mean(-1)


@dataclass(frozen=True)
class NearMiss(Example):
    """A built-in."""

    delta: float = 1.0


@dataclass(frozen=True)
class Stranger(Example):
    """A third party's, for another task."""

    tasks: ClassVar[tuple[str, ...]] = ("multiclass",)
    width: float
    shape: Space = Space.VALUE


def point(name, loaded, package="lossbench", version="1.2"):
    """An entry point: `loaded` is what it leads to, or the exception that loading it raises."""

    def load():
        if isinstance(loaded, BaseException):
            raise loaded
        return loaded() if callable(loaded) and not isinstance(loaded, type) else loaded

    return SimpleNamespace(name=name, load=load, dist=SimpleNamespace(name=package, version=version))


def module(**members):
    made = ModuleType("made")
    vars(made).update(members)
    return made


@pytest.fixture
def fresh(monkeypatch):
    """A registry of losses over given entry points."""

    def make(*points):
        monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "lossbench.losses" else ())
        return Registry("losses", "loss", Loss)

    return make


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("GeneralizedCrossEntropy", "generalized_cross_entropy"),
        ("MSE", "mse"),
        ("SmoothL1", "smooth_l1"),
        ("GaussianNLL", "gaussian_nll"),
        ("BCEWithLogits", "bce_with_logits"),
        ("Huber", "huber"),
    ],
)
def test_snake_case(name, snake):
    assert to_snake_case(name) == snake


def test_a_module_offers_its_public_concrete_classes(fresh):
    made = module(NearMiss=NearMiss, _Hidden=Stranger, Loss=Loss, something=3, Unrelated=dict)
    losses_ = fresh(point("lossbench", made))
    assert losses_.names() == ["near_miss"]
    assert losses_.find("near_miss") is NearMiss
    assert losses_.entries()["near_miss"].source == "lossbench 1.2"


def test_an_entry_point_may_name_a_class(fresh):
    losses_ = fresh(point("odd_one", Stranger, package="strange"))
    assert losses_.find("odd_one") is Stranger
    assert losses_.entries()["odd_one"].source == "strange 1.2"


def test_a_class_may_say_its_own_name(fresh):
    @dataclass(frozen=True)
    class ArcLoss(Example):
        name = "arcloss"

    @dataclass(frozen=True)
    class Child(ArcLoss):
        pass

    assert fresh(point("lossbench", module(ArcLoss=ArcLoss, Child=Child))).names() == ["arcloss", "child"]


def test_a_clash_names_both_sides(fresh):
    losses_ = fresh()
    losses_.register("huber", NearMiss, "lossbench 1.2")
    losses_.register("huber", NearMiss, "lossbench 1.2")  # the same class twice is fine
    with pytest.raises(NameClash) as error:
        losses_.register("huber", Stranger, "strange 0.1")
    message = str(error.value)
    assert "'huber' of strange 0.1 clashes with" in message
    assert f"{NearMiss.__module__}.NearMiss of lossbench 1.2" in message


def test_the_same_definition_run_again_replaces_the_older(fresh, monkeypatch):
    def defined(module, source, file=None):
        if file:
            monkeypatch.setitem(sys.modules, module, SimpleNamespace(__file__=file))
        return type("Cell", (NearMiss,), {"__module__": module}), source

    losses_ = fresh()
    for definition in (
        defined("notebook", "1.py", "/2.py"),
        defined("notebook", "2.py"),  # the cell again
        defined("package.cell", "2.py", "/2.py"),  # the same file under another name
    ):
        losses_.register("cell", *definition)
        assert losses_.find("cell") is definition[0]
    with pytest.raises(NameClash, match=r"clashes with package\.cell\.Cell of 2\.py"):
        losses_.register("cell", *defined("elsewhere", "3.py", "/3.py"))


@pytest.mark.parametrize("package", ["aaa", "zzz"])
def test_in_a_clash_of_packages_the_newcomer_is_reported(fresh, package):
    second = module(NearMiss=type("Other", (NearMiss,), {}), Stranger=Stranger)
    losses_ = fresh(point("more", second, package), point("lossbench", module(NearMiss=NearMiss)))
    assert losses_.find("near_miss") is NearMiss
    # its other losses are there all the same
    assert losses_.names() == ["near_miss", "stranger"]
    (problem,) = losses_.problems
    assert (problem.name, problem.source) == ("near_miss", f"{package} 1.2")
    assert "clashes with" in problem.reason


def test_a_script_that_takes_a_built_in_name_is_told_and_spoils_nothing(fresh):
    losses_ = fresh(point("lossbench", module(NearMiss=NearMiss, Stranger=Stranger)))
    losses_.register("near_miss", type("Mine", (NearMiss,), {}), "script.py")
    losses_.register("mine", type("Other", (NearMiss,), {}), "script.py")
    with pytest.raises(NameClash, match=r"'near_miss' of script\.py clashes with .*NearMiss of lossbench 1\.2"):
        losses_.names()
    assert losses_.find("near_miss") is NearMiss
    assert "stranger" in losses_.names()


@pytest.mark.parametrize("error", [ImportError("no torchfoo"), RuntimeError("odd"), SyntaxError("bad")])
def test_a_broken_package_is_reported_and_the_others_load(fresh, error):
    losses_ = fresh(point("broken", error, "strange"), point("good", NearMiss, "kind"))
    assert losses_.names() == ["good"]
    (problem,) = losses_.problems
    assert (problem.group, problem.name, problem.source) == ("lossbench.losses", "broken", "strange 1.2")
    assert problem.reason == f"{type(error).__name__}: {error}"
    with pytest.raises(UnknownName, match=r"Unknown loss 'broken'.*strange 1\.2 offers it and failed to load: .*"):
        losses_.find("broken")


def test_what_is_no_loss_is_reported(fresh):
    losses_ = fresh(point("number", 3, "strange"), point("plain", dict, "strange"))
    assert losses_.names() == []
    reasons = [p.reason for p in losses_.problems]
    assert all("must be a subclass of lossbench.interfaces.Loss. Got" in r for r in reasons)
    assert len(reasons) == 2


def test_reserved_field_names_are_refused(fresh):
    @dataclass(frozen=True)
    class Heavy(Example):
        weight: float = 1.0

    with pytest.raises(InvalidValue, match="Heavy of strange has a field called 'weight': that is reserved"):
        fresh().register("heavy", Heavy, "strange")


def test_entry_points_are_loaded_once_and_at_first_use(fresh):
    calls = []

    def load():
        calls.append(1)
        return NearMiss

    losses_ = fresh(point("near", load))
    assert not calls
    assert losses_.names() == losses_.names() == ["near"]
    assert len(calls) == 1


def test_unknown_names_give_the_nearest(fresh):
    losses_ = fresh(point("lossbench", module(NearMiss=NearMiss, Stranger=Stranger)))
    with pytest.raises(UnknownName, match=r"'near_mis'\. Did you mean 'near_miss'\? Losses: near_miss, stran"):
        losses_.find("near_mis")
    with pytest.raises(UnknownName, match=r"Unknown loss 'qqqq'\. Losses: near_miss, stranger\.$"):
        losses_.find("qqqq")
    with pytest.raises(UnknownName, match=r"Unknown field of loss 'near_miss': 'dleta'\. Did you mean 'delta'\?"):
        losses_.get("near_miss", dleta=1)


def test_unknown_names_for_a_task():
    with pytest.raises(UnknownName) as error:
        registry.losses.find("hubert", task="regression")
    message = str(error.value)
    assert message.startswith("Unknown loss 'hubert'. Did you mean 'huber'? Losses for regression: ")
    assert "cross_entropy" not in message
    with pytest.raises(UnknownName, match=r"Unknown task 'regresion'\. Did you mean 'regression'"):
        losses.list_names("regresion")


def test_instances(fresh):
    losses_ = fresh(point("lossbench", module(NearMiss=NearMiss, Stranger=Stranger)))
    assert losses_.get("near_miss", delta=2) == NearMiss(delta=2)
    assert losses_.build(Choice.from_fields("near_miss", {"delta": 3.0})) == NearMiss(delta=3.0)
    with pytest.raises(InvalidValue, match="The loss 'stranger' needs a value for width"):
        losses_.get("stranger")


def test_plain_values_become_enums(fresh):
    losses_ = fresh(point("lossbench", module(Stranger=Stranger)))
    assert losses_.get("stranger", width=1.0, shape="logit").shape is Space.LOGIT
    with pytest.raises(UnknownName, match="Did you mean 'logit'"):
        losses_.get("stranger", width=1.0, shape="logits")


def test_fits_task():
    assert fits_task(NearMiss, "regression")
    assert not fits_task(NearMiss, "binary")
    assert fits_task(losses.External, "binary")
    assert fits_task(object, "binary")


def test_built_ins_load_without_problems():
    for group, known in registry.ALL.items():
        assert known.group == group
    losses.list_names()
    assert [p for p in registry.losses.problems if p.source.startswith("lossbench ")] == []


def test_losses_are_named_in_the_public_module():
    for name in losses.__all__:
        value = getattr(losses, name)
        if isinstance(value, type):
            assert value in {e.kind for e in registry.losses.entries().values()}
    assert losses.get("huber", delta=2.0) == losses.Huber(delta=2.0)
    assert {"huber", "mse", "external"} <= set(losses.list_names("regression"))
    assert "cross_entropy" not in losses.list_names("regression")


def test_another_thread_waits_until_all_entry_points_are_loaded(monkeypatch):
    names, begun, go_on = registry.Registry("losses", "loss", Loss), threading.Event(), threading.Event()
    load = names._load_point

    def slowly(point):
        begun.set()
        go_on.wait(60)
        load(point)

    monkeypatch.setattr(names, "_load_point", slowly)
    found = []
    threads = [threading.Thread(target=lambda: found.append(names.names())) for _ in range(2)]
    threads[0].start()
    begun.wait(60)
    threads[1].start()
    threads[1].join(0.2)
    assert found == []
    go_on.set()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert "mse" in found[0]
