"""Tables of OpenML, from its answers as scikit-learn reads them."""

import gzip
import json

import numpy as np
import pytest
from unit import data_files
from unit.data_files import COLOURS, unplugged

from lossbench import datasets
from lossbench.errors import Incompatible, InvalidValue, Unavailable, UnknownName


@pytest.mark.parametrize("parser", ["pandas", "liac-arff"])
def test_openml_numbers_are_kept_and_categories_become_columns(parser, web, monkeypatch):
    web.offer("openml")
    monkeypatch.setattr("lossbench.datasets.openml._choose_parser", lambda: parser)
    examples = datasets.get("openml", dataset="houses").load()
    i = np.arange(40)
    area = i / 2
    area[3] = np.median(np.delete(area, 3))
    colour = (i % 3)[:, None] == np.arange(3)
    colour[5] = False
    missing = i[:, None] == 5
    assert examples.inputs.dtype == np.float32
    np.testing.assert_array_equal(examples.inputs, np.column_stack([area, i % 4, colour, missing]))
    np.testing.assert_array_equal(examples.targets, 10.5 * i[:, None])
    assert (examples.targets.dtype, examples.class_names) == (np.float64, ())


@pytest.mark.parametrize("parser", ["pandas", "liac-arff"])
def test_openml_classes_are_in_alphabetical_order(parser, web, monkeypatch):
    web.offer("openml")
    monkeypatch.setattr("lossbench.datasets.openml._choose_parser", lambda: parser)
    binary = datasets.get("openml", id=12).load()
    np.testing.assert_array_equal(binary.targets, np.arange(40) % 4 == 0)
    assert (binary.targets.dtype, binary.class_names) == (np.int64, ("no", "yes"))
    several = datasets.get("openml", dataset="plants", version=2).load()
    assert several.class_names == ("fern", "moss", "tree")  # of "none of these" there are none
    np.testing.assert_array_equal(several.targets, np.array([2, 0, 1])[np.arange(40) % 3])


def test_openml_classes_may_be_called_by_numbers(web):
    rows = data_files.cells(40, [(3, 10, 7, 7)[i % 4] for i in range(40)])
    columns = data_files.columns(("grade", ["10", "3", "7"], "is_target"))
    data_files.table(web, 21, "grades", columns, rows)
    examples = datasets.get("openml", id=21).load()
    assert examples.class_names == ("10", "3", "7")
    np.testing.assert_array_equal(examples.targets, np.array([1, 0, 2, 2])[np.arange(40) % 4])


def test_openml_gives_a_feature_of_many_categories_a_hundred_columns(web):
    rows = [line.replace("'blue'", f"'blue {i}'") for i, line in enumerate(data_files.cells(400, range(400)))]
    columns = data_files.columns(("price", "numeric", "is_target"))
    columns[3] = ("colour", [*COLOURS, *(f"blue {i}" for i in range(400))], "")
    data_files.table(web, 22, "many", columns, rows)
    examples = datasets.get("openml", id=22).load()
    assert examples.inputs.shape == (400, 102)
    np.testing.assert_array_equal(examples.inputs[:, 2:].sum(1), np.ones(400))


def test_openml_takes_another_target(web):
    web.offer("openml")
    examples = datasets.get("openml", dataset="houses", target="rooms").load()
    np.testing.assert_array_equal(examples.targets[:, 0], np.arange(40) % 4)
    np.testing.assert_array_equal(examples.inputs[:, 1], 10.5 * np.arange(40))  # the price is an input now


def test_openml_weights_are_a_column_that_is_no_input(web):
    web.offer("openml")
    examples = datasets.get("openml", id=12, weights="rooms").load()
    np.testing.assert_array_equal(examples.weights, np.arange(40) % 4)
    assert examples.inputs.shape == (40, 5)
    some = datasets.get("openml", id=12, weights="rooms", n=12).load()
    np.testing.assert_array_equal(some.weights == 0, some.targets)
    assert [datasets.get("openml", id=12, weights=w).weighted for w in ("", "rooms")] == [False, True]


def test_openml_refuses_weights_that_are_none(web):
    web.offer("openml")
    with pytest.raises(UnknownName, match="Did you mean 'rooms'"):
        datasets.get("openml", id=12, weights="room").load()
    with pytest.raises(Incompatible, match="'colour' of OpenML's data set 12 is not numeric, as weights must be"):
        datasets.get("openml", id=12, weights="colour").load()


def test_openml_draws_rows_in_proportion(web):
    web.offer("openml")
    everything, some = (datasets.get("openml", id=12, n=n).load() for n in (0, 12))
    assert np.bincount(some.targets).tolist() == [9, 3]
    known = {tuple(row) for row in everything.inputs.tolist()}
    assert all(tuple(row) in known for row in some.inputs.tolist())
    with pytest.raises(InvalidValue, match=r"data.n=41 asks for more examples than there are: 40"):
        datasets.get("openml", id=12, n=41).load()


def test_openml_downloads_once(web, root):
    web.offer("openml")
    first = datasets.get("openml", id=12).load()
    asked = len(web.asked)
    second = datasets.get("openml", id=12).load()
    assert asked == len(web.asked) == 4  # description, columns, qualities, table
    np.testing.assert_array_equal(first.inputs, second.inputs)
    assert (root / "openml").is_dir()


def test_openml_without_a_network(monkeypatch, root):
    unplugged(monkeypatch)
    with pytest.raises(Unavailable) as told:
        datasets.get("openml", dataset="adult", version=2).load()
    assert str(told.value).startswith(
        f"OpenML's data set adult version 2 is not in {root}/openml and cannot be fetched"
    )
    assert str(told.value).count("name resolution") == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dataset": "hauses"}, "No active dataset hauses found"),
        ({"dataset": "plants", "version": 7}, "plants with version 7 not found"),
        ({"id": 99}, "data_id 99 not found"),
        ({"dataset": "houses", "target": "colour"}, "'colour' has 1 missing values"),
    ],
)
def test_openml_says_what_it_does_not_have(fields, said, web):
    web.offer("openml")
    with pytest.raises(Unavailable, match=rf"{said}.*https://www.openml.org/search"):
        datasets.get("openml", **fields).load()


def test_openml_names_the_columns_for_one_that_is_not_there(web):
    web.offer("openml")
    with pytest.raises(UnknownName, match=r"'room'. Did you mean 'rooms'\? Its columns: area, colour, price"):
        datasets.get("openml", dataset="houses", target="room").load()


def test_openml_refuses_a_table_with_the_wrong_checksum(web):
    web.offer("openml")
    file = next(url for url in web.bodies if url.endswith("answers.arff"))
    web.bodies[file] += b"%"
    with pytest.raises(Unavailable, match=r"md5 checksum of the file .* does not match"):
        datasets.get("openml", id=12).load()


def test_openml_fetches_again_what_is_damaged(web, root):
    web.offer("openml")
    first = datasets.get("openml", id=12).load()
    (kept,) = root.rglob("answers.arff.gz")
    kept.write_bytes(gzip.compress(b"@DATA\n1,2,3\n"))
    np.testing.assert_array_equal(datasets.get("openml", id=12).load().inputs, first.inputs)


def test_openml_passes_warnings_on_in_one_line(web, caplog):
    web.offer("openml")
    url = next(url for url in web.bodies if url.endswith("houses/limit/2/status/active/"))
    entry = web.bodies[url].decode().removeprefix('{"data": {"dataset": [').removesuffix("]}}")
    web.bodies[url] = f'{{"data": {{"dataset": [{entry}, {entry}]}}}}'.encode()
    datasets.get("openml", dataset="houses").load()
    (record,) = caplog.records
    assert record.name == "lossbench"
    assert record.getMessage().startswith("Multiple active versions")
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize(
    ("is_target", "said"), [([], "names no target"), (["answer", "colour"], "has 2 columns to predict")]
)
def test_openml_wants_one_target(is_target, said, web):
    web.offer("openml")
    url = next(url for url in web.bodies if url.endswith("features/12"))
    told = json.loads(web.bodies[url])
    for column in told["data_features"]["feature"]:
        column |= {"is_target": str(column["name"] in is_target).lower(), "number_of_missing_values": "0"}
    web.bodies[url] = json.dumps(told).encode()
    with pytest.raises(Incompatible, match=f"12 {said}: choose one by data.target="):
        datasets.get("openml", id=12).load()


def test_openml_wants_features(web):
    web.offer("openml")
    url = next(url for url in web.bodies if url.endswith("features/12"))
    for kind in (b'"numeric"', b'"nominal"'):
        web.bodies[url] = web.bodies[url].replace(b'"data_type": ' + kind, b'"data_type": "string"')
    web.bodies[url] = web.bodies[url].replace(b'"is_ignore": "false"', b'"is_ignore": "true"')
    with pytest.raises(Incompatible, match="12 has no numeric or categorical columns beside its target"):
        datasets.get("openml", id=12).load()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "data.dataset=<name> or data.id=<number>"),
        ({"dataset": "adult", "id": 3}, "and not both"),
        ({"id": 3, "version": 2}, "data.version goes with data.dataset"),
        ({"id": -1}, "'id' parameter of OpenML"),
    ],
)
def test_openml_refuses(fields, said):
    with pytest.raises(InvalidValue, match=said):
        datasets.get("openml", **fields)
