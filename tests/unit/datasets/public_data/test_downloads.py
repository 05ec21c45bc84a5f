"""Files of public data sets: where they lie, how they are fetched, and what is said of missing or damaged ones."""

import fcntl
import threading
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10
from unit.data_files import unplugged

from lossbench import datasets
from lossbench.datasets.downloads import get_data_folder
from lossbench.errors import InvalidValue, Unavailable

TORCHVISION = ("mnist", "fashion_mnist", "cifar10", "cifar100", "voc")


def test_the_folder_is_the_one_given_else_the_variables_else_the_general_one(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("XDG_DATA_HOME", "/big")
    monkeypatch.setenv("LOSSBENCH_DATA", "~/sets")
    assert get_data_folder("~/mine") == Path("/home/ann/mine")
    assert get_data_folder("") == Path("/home/ann/sets")
    monkeypatch.delenv("LOSSBENCH_DATA")
    assert get_data_folder("") == Path("/big/lossbench")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert get_data_folder("") == Path("/home/ann/.local/share/lossbench")
    assert get_data_folder("here") == Path.cwd() / "here"


@pytest.mark.parametrize("name", [*TORCHVISION, "openml"])
def test_where_the_files_lie_makes_no_difference_between_data_sets(name):
    fields = {"id": 12} if name == "openml" else {}
    assert datasets.get(name, root="a", **fields) == datasets.get(name, root="b", **fields)


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("field", ["n", "n_test", "random_state"])
def test_negative_counts_are_refused(name, field):
    with pytest.raises(InvalidValue, match=f"'{field}' parameter of"):
        datasets.get(name, **{field: -1})


@pytest.mark.parametrize("name", TORCHVISION)
def test_files_are_downloaded_once_and_told_of_only_then_on_standard_error(name, web, capsys):
    web.offer(name)
    first = datasets.get(name).load()
    told = capsys.readouterr()
    asked = len(web.asked)
    assert asked >= len(web.bodies)
    assert told.out == ""
    assert "100%" in told.err
    second = datasets.get(name).load()
    assert len(web.asked) == asked
    assert capsys.readouterr() == ("", "")
    np.testing.assert_array_equal(first.inputs, second.inputs)


@pytest.mark.parametrize("name", TORCHVISION)
def test_archives_copied_by_hand_are_unpacked_where_downloads_are_forbidden(name, web, root):
    web.offer(name)
    web.save({"mnist": root / "MNIST/raw", "fashion_mnist": root / "FashionMNIST/raw"}.get(name, root))
    assert len(datasets.get(name, download=False).load().inputs)
    assert web.asked == []


@pytest.mark.parametrize("name", TORCHVISION)
def test_missing_files_are_named_with_where_to_get_them(name, web, root):
    web.offer(name)
    with pytest.raises(Unavailable) as told:
        datasets.get(name, download=False).load()
    url, *others = web.bodies
    file = url.rsplit("/", 1)[1]
    assert str(root) in str(told.value)
    assert f"{file} is missing" in str(told.value)
    assert url in str(told.value)
    assert all(other.rsplit("/", 1)[1] in str(told.value) for other in others)
    assert "data.download=false" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", TORCHVISION)
def test_without_a_network_the_reason_is_given_once(name, monkeypatch):
    unplugged(monkeypatch)
    with pytest.raises(
        Unavailable, match=r"cannot be fetched into .*name resolution.*where there is a network"
    ) as told:
        datasets.get(name).load()
    assert str(told.value).count("name resolution") == 1
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_download_with_the_wrong_checksum_is_refused(name, web):
    web.offer(name)
    web.bodies = {url: b"<html>not what you wanted" for url in web.bodies}
    with pytest.raises(Unavailable, match=r"cannot be fetched .* corrupted"):
        datasets.get(name).load()


def test_a_damaged_archive_is_named(web, root):
    web.offer("cifar10")
    web.save(root)
    (root / CIFAR10.filename).write_bytes(b"cut off")
    with pytest.raises(Unavailable, match=f"{CIFAR10.filename} is damaged, and data.download=false"):
        datasets.get("cifar10", download=False).load()


def test_a_folder_that_cannot_be_written_is_said(web, root):
    web.offer("cifar10")
    root.write_text("a file, not a folder")
    with pytest.raises(Unavailable, match=r"CIFAR10 cannot be fetched into .*File exists"):
        datasets.get("cifar10").load()


def test_one_process_fetches_while_the_others_wait(web, root):
    web.offer("cifar10")
    root.mkdir()
    with (root / ".lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=datasets.get("cifar10").load)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert web.asked == []
    waiting.join(30)
    assert not waiting.is_alive()
    assert (root / "cifar-10-batches-py" / "test_batch").exists()


def test_a_damaged_batch_is_named(web, root):
    web.offer("cifar10")
    datasets.get("cifar10").load()
    batch = root / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(Unavailable, match=r"CIFAR10 is damaged: .*data_batch_3 is damaged. Delete it"):
        datasets.get("cifar10").load()
    batch.unlink()
    assert len(datasets.get("cifar10", download=False).load().inputs) == 90  # from the archive that is still there


def test_a_cut_image_file_is_noticed(web, root):
    web.offer("mnist")
    datasets.get("mnist").load()
    images = root / "MNIST/raw/train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    with pytest.raises(Unavailable, match=r"MNIST is damaged: a file below .*MNIST/raw cannot be read"):
        datasets.get("mnist").load()


def test_images_and_labels_must_be_equally_many(web, root):
    web.offer("mnist")
    datasets.get("mnist").load()
    raw = root / "MNIST/raw"
    (raw / "train-labels-idx1-ubyte").write_bytes((raw / "t10k-labels-idx1-ubyte").read_bytes())
    with pytest.raises(Unavailable, match="60 images and 30 labels"):
        datasets.get("mnist").load()
