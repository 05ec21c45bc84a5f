"""Boxes in photographs, from a small archive in the format of Pascal VOC."""

import numpy as np
import pytest
from torchvision.datasets import VOCDetection
from unit.data_files import SCENES, described, photograph

from lossbench import datasets
from lossbench.errors import InvalidValue, Unavailable


def boxes_of(part):
    """The last object of each photograph with an easy one, in pixels from 0: `[N, 4]`."""
    corners = np.array([objects[-1][2:] for objects in SCENES[part].values() if not objects[-1][1]], np.float64)
    return corners - [1, 1, 0, 0]


def test_voc_gives_the_largest_easy_object_in_pixels_of_the_square(web):
    web.offer("voc")
    examples = datasets.get("voc", size=32).load()
    expected = np.concatenate([boxes_of("train"), boxes_of("val")]) * [32 / 50, 32 / 40, 32 / 50, 32 / 40]
    assert examples.inputs.shape == (18, 3, 32, 32)
    assert examples.targets.dtype == np.float64
    np.testing.assert_allclose(examples.targets, expected, rtol=1e-12)
    np.testing.assert_array_equal(examples.test, np.arange(12, 18))


def test_voc_boxes_lie_where_the_objects_are(web):
    web.offer("voc")
    examples = datasets.get("voc", size=64).load()
    for image, (x1, y1, x2, y2) in zip(examples.inputs, examples.targets, strict=True):
        bright = np.argwhere(image.mean(0)[:, : int(x2) + 3] > 0.5)  # the smaller object is further right
        np.testing.assert_allclose(bright.min(0), [y1, x1], atol=1)
        np.testing.assert_allclose(bright.max(0) + 1, [y2, x2], atol=1)


def test_voc_parses_each_photograph_once(web, root, monkeypatch):
    web.offer("voc")
    first = datasets.get("voc").load()
    with monkeypatch.context() as patch:
        patch.setattr(VOCDetection, "__getitem__", lambda *_: pytest.fail("parsed again"))
        second = datasets.get("voc", n=5).load()
    assert second.inputs[-1].tolist() == first.inputs[-1].tolist()
    name = next(iter(SCENES["train"]))
    new = described([("cow", 0, 11, 11, 20, 30)])
    (root / f"VOCdevkit/VOC2012/Annotations/{name}.xml").write_bytes(new)
    assert datasets.get("voc", size=40).load().targets[0].tolist() == [8, 10, 16, 30]
    assert datasets.get("voc").load().targets[0].tolist() == [12.8, 16, 25.6, 48]


def test_voc_unpacks_again_what_is_incomplete(web, root):
    web.offer("voc")
    datasets.get("voc").load()
    photographs = root / "VOCdevkit/VOC2012/JPEGImages"
    lost = photographs / f"{next(iter(SCENES['val']))}.jpg"
    lost.unlink()
    assert len(datasets.get("voc", download=False).load().inputs) == 18
    assert lost.exists()


def test_voc_names_what_cannot_be_read(web, root):
    web.offer("voc")
    datasets.get("voc").load()
    name = next(iter(SCENES["train"]))
    (root / f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg").write_bytes(photograph([])[:200])
    with pytest.raises(Unavailable, match=rf"VOC 2012 is damaged: .*{name}"):
        datasets.get("voc").load()


@pytest.mark.parametrize("fields", [{"year": 2008}, {"size": 4}])
def test_voc_refuses(fields):
    with pytest.raises(InvalidValue, match=f"'{next(iter(fields))}' parameter of VOC"):
        datasets.get("voc", **fields)
