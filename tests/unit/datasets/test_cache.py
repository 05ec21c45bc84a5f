"""Arrays are kept whole or not at all, and a cache that fails costs time only."""

import logging
import os
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
from commands import Command, run_command
from waiting import wait_until

from lossbench.datasets import cache
from lossbench.datasets.cache import get_cache_folder, list_code_versions, load_or_compute

ARRAYS = {
    "inputs": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "targets": np.array([[1, -1]], dtype=np.int64),
    "file": np.array(["a", "bc"]),
    "empty": np.zeros((0, 3)),
    "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "number": np.array(7),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


class Maker:
    """Counts how often it is asked."""

    def __init__(self, arrays=ARRAYS):
        self.arrays, self.calls = arrays, 0

    def __call__(self):
        self.calls += 1
        return self.arrays


def assert_equal(arrays, wanted=ARRAYS):
    assert list(arrays) == list(wanted)
    for name, array in arrays.items():
        assert array.dtype == wanted[name].dtype
        np.testing.assert_array_equal(array, wanted[name])


@pytest.mark.slow
def test_tests_do_not_use_the_cache_of_the_user(tmp_path):
    assert Path.home() not in get_cache_folder().parents
    told = run_command(tmp_path, "-c", "from lossbench.datasets.cache import get_cache_folder as f; print(f())")
    assert told.stdout.strip() == str(get_cache_folder())


def test_arrays_are_made_once(place):
    make = Maker()
    assert_equal(load_or_compute("key", make))
    assert_equal(load_or_compute("key", make))
    assert make.calls == 1
    assert len(list(place.iterdir())) == 1


def test_each_key_has_its_own_arrays(place):
    keys = ["a", ["a"], ["a", 1], ["a", 1.5], {"a": 1}, None]
    for number, key in enumerate(keys):
        load_or_compute(key, Maker({"x": np.array(number)}))
    never = Maker()
    assert [int(load_or_compute(key, never)["x"]) for key in keys] == list(range(len(keys)))
    assert never.calls == 0


def test_a_key_that_is_not_plain_is_refused(place):
    with pytest.raises(TypeError, match="cannot hash object"):
        load_or_compute(object(), Maker())


def test_a_change_of_what_was_given_stays_outside(place):
    first = load_or_compute("key", Maker({"x": np.zeros(3)}))
    first["x"][:] = 1
    again = load_or_compute("key", Maker())["x"]
    again[:] = 2
    np.testing.assert_array_equal(load_or_compute("key", Maker())["x"], 0)


def cut(file, share):
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


def flip(file):
    content = bytearray(file.read_bytes())
    content[content.index(np.float32(23).tobytes())] ^= 1  # the last of the first array's numbers
    file.write_bytes(content)


def forget(file):
    """Take the last array off the list at the file's end."""
    content = bytearray(file.read_bytes())
    place = content.index(b"PK\x05\x06")  # the end of central directory record
    last = content.rindex(b"PK\x01\x02")
    content[place + 8 : place + 12] = 2 * (len(ARRAYS) - 1).to_bytes(2, "little")
    start = int.from_bytes(content[place + 16 : place + 20], "little")
    content[place + 12 : place + 16] = (last - start).to_bytes(4, "little")
    file.write_bytes(content[:last] + content[place:])


DAMAGE = {
    "a lost array": forget,
    "empty": lambda file: cut(file, 0),
    "a tenth": lambda file: cut(file, 0.1),
    "cut": lambda file: cut(file, 0.9),
    "one bit": flip,
    "text": lambda file: file.write_text("not yours"),
    "an array alone": lambda file: file.write_bytes(np.zeros(3).tobytes()),
    "pickles": lambda file: np.savez(file, inputs=np.array([object()], dtype=object)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_again(place, damage):
    load_or_compute("key", Maker())
    (file,) = place.iterdir()
    DAMAGE[damage](file)
    make = Maker()
    assert_equal(load_or_compute("key", make))
    assert_equal(load_or_compute("key", make))
    assert make.calls == 1


@pytest.mark.slow
def test_no_change_of_bytes_goes_unnoticed(place):
    load_or_compute("key", Maker())
    (file,) = place.iterdir()
    good, generator = file.read_bytes(), np.random.default_rng(0)
    make = Maker()
    for _ in range(500):
        content = bytearray(good[: generator.integers(len(good) + 1) if generator.random() < 0.3 else None])
        for place_of_damage in generator.integers(len(content), size=3) if content else ():
            content[place_of_damage] = generator.integers(256)
        file.write_bytes(content)
        assert_equal(load_or_compute("key", make))
    assert make.calls > 400


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.DEBUG, "lossbench"):
        assert_equal(load_or_compute("key", Maker()))
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    assert "is not kept" in caplog.text


def test_a_full_disk_leaves_nothing(place, monkeypatch, caplog):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with caplog.at_level(logging.DEBUG, "lossbench"):
        assert_equal(load_or_compute("key", Maker()))
    assert not list(place.iterdir())
    assert "No space left" in caplog.text


def test_what_fails_to_be_made_is_not_kept(place):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        load_or_compute("key", fail)
    assert not place.exists()


def test_python_objects_are_refused(place):
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        load_or_compute("key", Maker({"x": np.array([{}], dtype=object)}))
    assert not list(place.iterdir())


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from lossbench.datasets.cache import load_or_compute
number = int(sys.argv[1])
Path(f"ready{number}").touch()
while not Path("go").exists():
    time.sleep(0.001)
arrays = load_or_compute("shared", lambda: {"x": np.full(200_000, number), "y": np.full(200_000, number)})
print(len({*arrays["x"], *arrays["y"]}))
"""


@pytest.mark.slow
def test_processes_may_write_at_the_same_time(place, tmp_path):
    with ExitStack() as stack:
        writers = [stack.enter_context(closing(Command(tmp_path, "-c", WRITER, str(number)))) for number in range(4)]
        for number, writer in enumerate(writers):
            wait_until((tmp_path / f"ready{number}").exists, "a writer is ready", writer)
        (tmp_path / "go").touch()  # all at once
        assert [writer.wait() for writer in writers] == [(0, "1\n", "")] * 4
    assert [file.suffix for file in place.iterdir()] == [".npz"]
    never = Maker()
    assert len({*(arrays := load_or_compute("shared", never))["x"], *arrays["y"]}) == 1
    assert never.calls == 0


def test_a_writer_that_is_overtaken_does_no_harm(place):
    def slow():
        load_or_compute("key", Maker({"x": np.array(1)}))
        return {"x": np.array(2)}

    assert int(load_or_compute("key", slow)["x"]) == 2
    assert int(load_or_compute("key", Maker())["x"]) == 2
    assert len(list(place.iterdir())) == 1


@pytest.mark.parametrize(
    ("own", "general", "wanted"),
    [
        ("/a/b", "/x", Path("/a/b")),
        ("~/b", "/x", Path.home() / "b"),
        ("", "/x", Path("/x/lossbench")),
        (None, "", Path.home() / ".cache" / "lossbench"),
        (None, "relative", Path.home() / ".cache" / "lossbench"),
        (None, None, Path.home() / ".cache" / "lossbench"),
    ],
)
def test_the_folder_follows_the_variables(monkeypatch, own, general, wanted):
    for name, value in {"LOSSBENCH_CACHE": own, "XDG_CACHE_HOME": general}.items():
        monkeypatch.delenv(name) if value is None and name in os.environ else None
        if value is not None:
            monkeypatch.setenv(name, value)
    assert get_cache_folder() == wanted


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    monkeypatch.delenv("LOSSBENCH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert_equal(load_or_compute("key", Maker()))


def test_origin_changes_with_the_code(monkeypatch):
    before = list_code_versions(cache)
    assert before != list_code_versions()
    assert "def load_or_compute" in before[-1]
    monkeypatch.setattr(cache.inspect, "getsource", lambda module: "other")
    assert list_code_versions(cache) != before
    assert any(part.startswith("scikit-learn ") for part in before)


def test_a_module_without_source_counts_by_its_name(monkeypatch):
    def missing(module):
        raise OSError("could not get source code")

    monkeypatch.setattr(cache.inspect, "getsource", missing)
    assert list_code_versions(cache)[-1] == "lossbench.datasets.cache"
