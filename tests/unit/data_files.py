"""Small files in the formats of public data sets, and a web that offers them; the real one must not be asked."""

import gzip
import hashlib
import io
import json
import pickle
import socket
import tarfile
from urllib.error import HTTPError
from urllib.request import Request

import numpy as np
import pytest
import sklearn.datasets._openml  # before any Web: it takes urlopen when it is imported
import torchvision
from PIL import Image
from torchvision.datasets.voc import DATASET_YEAR_DICT

OPENML = "https://www.openml.org"
FIELDS = {
    "openml": {
        "regression": {"dataset": "houses"},
        "binary": {"id": 12},
        "multiclass": {"dataset": "plants", "version": 2},
    }
}
"""With which fields a data set fits a task, where that depends on them."""


def no_network(monkeypatch):
    """Any connection fails the test, past everything that catches exceptions."""
    refuse = lambda *_, **__: pytest.fail("a test has tried to reach the network")  # noqa: E731
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def unplugged(monkeypatch):
    """No name can be looked up, as without a network."""

    def fail(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(sklearn.datasets._openml.time, "sleep", lambda _: None)


class Web:
    """Answers for torchvision and scikit-learn instead of urlopen; `asked` are the addresses that they wanted."""

    def __init__(self, monkeypatch):
        self.bodies, self.asked = {}, []
        self.monkeypatch = monkeypatch
        monkeypatch.setattr("urllib.request.urlopen", self)
        monkeypatch.setattr(sklearn.datasets._openml, "urlopen", self)
        monkeypatch.setattr(sklearn.datasets._openml.time, "sleep", lambda _: None)

    def __call__(self, request):
        url = request.full_url if isinstance(request, Request) else request
        self.asked.append(url)
        if url not in self.bodies:
            # what OpenML answers to a question for what it does not have
            raise HTTPError(url, 412 if url.startswith(OPENML) else 404, "nothing here", {}, io.BytesIO())
        return Response(url, self.bodies[url])

    def offer(self, name):
        """The files of a data set, with checksums as torchvision is to expect them."""
        {"voc": voc, "openml": openml, "cifar10": cifar10, "cifar100": cifar100}.get(name, mnist)(self, name)

    def save(self, folder):
        """As somebody who has copied the files there by hand."""
        folder.mkdir(parents=True, exist_ok=True)
        for url, body in self.bodies.items():
            (folder / url.rsplit("/", 1)[1]).write_bytes(body)


class Response(io.BytesIO):
    def __init__(self, url, body):
        super().__init__(body)
        self.url, self.length = url, len(body)

    def info(self):
        return {}


def md5(body):
    return hashlib.md5(body).hexdigest()


def idx(array):
    """http://yann.lecun.com/exdb/mnist/: a magic number (type 8: bytes; number of axes), the sizes, the bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def labels(n, n_classes=10):
    """All classes equally often, in no order."""
    return np.random.default_rng(n).permutation(np.arange(n) % n_classes)


def grey(label):
    """An image of one number per class, but for its first pixel, which is 255."""
    images = np.repeat(np.asarray(label, np.uint8) * 20, 28 * 28).reshape(-1, 28, 28)
    images[:, 0, 0] = 255
    return images


def mnist(web, name):
    reader = {"mnist": torchvision.datasets.MNIST, "fashion_mnist": torchvision.datasets.FashionMNIST}[name]
    resources = []
    for part, n in (("train", 60), ("t10k", 30)):
        for kind, array in (("images-idx3", grey(labels(n))), ("labels-idx1", labels(n))):
            body = gzip.compress(idx(array), mtime=0)
            resources.append((f"{part}-{kind}-ubyte.gz", md5(body)))
            web.bodies[f"{reader.mirrors[0]}{resources[-1][0]}"] = body
    web.monkeypatch.setattr(reader, "resources", resources)


def coloured(label):
    """https://www.cs.toronto.edu/~kriz/cifar.html: rows of 1024 red, 1024 green and 1024 blue bytes, row by row."""
    red = np.tile(np.arange(1024) % 256, (len(label), 1))
    green, blue = (np.repeat(np.asarray(label)[:, None] + shift, 1024, axis=1) for shift in (0, 100))
    return np.concatenate([red, green, blue], axis=1).astype(np.uint8)


def cifar10(web, _):
    def batch(label, number):
        return {"batch_label": f"training batch {number} of 5", "labels": label.tolist(), "data": coloured(label)}

    rows = labels(60).reshape(5, 12)
    files = {f"data_batch_{i + 1}": batch(part, i + 1) for i, part in enumerate(rows)}
    files |= {"test_batch": batch(labels(30), 1)}
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    cifar(web, torchvision.datasets.CIFAR10, files, {"label_names": names, "num_vis": 3072})


def cifar100(web, _):
    def part(label):
        return {"fine_labels": label.tolist(), "coarse_labels": (label // 5).tolist(), "data": coloured(label)}

    files = {"train": part(labels(600, 100)), "test": part(labels(100, 100))}
    cifar(web, torchvision.datasets.CIFAR100, files, {"fine_label_names": [f"kind {i}" for i in range(100)]})


def cifar(web, reader, files, meta):
    bodies = {name: pickle.dumps(content, protocol=2) for name, content in files.items()}
    bodies[reader.meta["filename"]] = pickle.dumps(meta, protocol=2)
    archive = tar({f"{reader.base_folder}/{name}": body for name, body in bodies.items()}, "w:gz")
    web.bodies[reader.url] = archive
    lists = ([[name, md5(bodies[name])] for name, _ in part] for part in (reader.train_list, reader.test_list))
    checksum = md5(bodies[reader.meta["filename"]])
    changes = dict(zip(("train_list", "test_list"), lists, strict=True))
    changes |= {"tgz_md5": md5(archive), "meta": {**reader.meta, "md5": checksum}}
    for attribute, value in changes.items():
        web.monkeypatch.setattr(reader, attribute, value)


def tar(files, mode):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return stream.getvalue()


def described(objects, size=(50, 40)):
    """http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc: objects are (name, difficult, xmin, ymin, xmax, ymax)."""
    xml = "".join(
        f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated><difficult>{difficult}</difficult>"
        f"<bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin><ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox></object>"
        for name, difficult, x1, y1, x2, y2 in objects
    )
    width, height = size
    return (
        f"<annotation><folder>VOC2012</folder><filename>some.jpg</filename><size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size><segmented>0</segmented>{xml}</annotation>"
    ).encode()


def photograph(objects, size=(50, 40)):
    """Black, with the easy objects in white."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for _, difficult, x1, y1, x2, y2 in objects:
        pixels[y1 - 1 : y2, x1 - 1 : x2] = 0 if difficult else 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def scenes(n, seed):
    """Objects of `n` photographs: an easy one that is smaller than a difficult one, and the smallest."""
    draw = np.random.default_rng(seed)
    corners = draw.integers(1, 15, (n, 2))
    return [
        [("cat", 1, 1, 1, 50, 40), ("dog", 0, x + 30, y, x + 32, y + 3), ("dog", 0, x, y, x + 19, y + 15)]
        for x, y in corners.tolist()
    ]


SCENES = {
    "train": {f"2008_{i:06d}": scene for i, scene in enumerate(scenes(12, 0))},
    "val": {f"2009_{i:06d}": scene for i, scene in enumerate(scenes(6, 1))}
    | {"2009_000099": [("cat", 1, 1, 1, 50, 40)]},  # nothing easy: left out
}


def voc(web, _):
    base, files = "VOCdevkit/VOC2012", {}
    for part, photographs in SCENES.items():
        files[f"{base}/ImageSets/Main/{part}.txt"] = "".join(f"{name}\n" for name in photographs).encode()
        for name, objects in photographs.items():
            files[f"{base}/Annotations/{name}.xml"] = described(objects)
            files[f"{base}/JPEGImages/{name}.jpg"] = photograph(objects)
    archive = tar(files, "w")
    found = DATASET_YEAR_DICT["2012"]
    web.bodies[found["url"]] = archive
    web.monkeypatch.setitem(DATASET_YEAR_DICT, "2012", {**found, "md5": md5(archive)})


COLOURS = ["blue", "dark red", "green"]


def columns(target):
    """A row number, two kinds of numbers, a category, a text and a date: name, type, whether to be ignored."""
    return [
        ("row", "numeric", "is_row_identifier"),
        ("area", "numeric", ""),
        ("rooms", "numeric", ""),
        ("colour", COLOURS, ""),
        ("remark", "string", ""),
        ("secret", "numeric", "is_ignore"),
        target,
    ]


def cells(n, answers):
    """Rows in ARFF; an area and a colour are missing."""
    lines = []
    for i, answer in zip(range(n), answers, strict=True):
        area = "?" if i == 3 else str(i / 2)
        colour = "?" if i == 5 else f"'{COLOURS[i % 3]}'"
        lines.append(f"{i},{area},{i % 4},{colour},'a remark',{i},{answer}")
    return lines


def openml(web, _):
    n = 40
    table(web, 11, "houses", columns(("price", "numeric", "is_target")), cells(n, [10.5 * i for i in range(n)]))
    answer = columns(("answer", ["yes", "no"], "is_target"))
    table(web, 12, "answers", answer, cells(n, [("yes", "no", "no", "no")[i % 4] for i in range(n)]))
    kind = columns(("kind", ["tree", "fern", "moss", "none of these"], "is_target"))
    table(web, 13, "plants", kind, cells(n, [("tree", "fern", "moss")[i % 3] for i in range(n)]), version=2)


def table(web, number, name, kinds, rows, version=1):
    """OpenML's answers about one data set, as https://www.openml.org/apis describes them; the target comes last."""
    arff = "\n".join([f"@RELATION {name}", *map(_attribute, kinds), "@DATA", *rows, ""]).encode()
    file = f"{OPENML}/data/v1/download/{number}/{name}.arff"
    entry = {"did": number, "name": name, "version": version, "status": "active", "format": "ARFF"}
    description = {
        "id": str(number), "name": name, "version": str(version), "format": "ARFF", "licence": "CC0", "url": file,
        "status": "active", "description": "made up", "md5_checksum": md5(arff),
    }  # fmt: skip
    listed = {"data": {"dataset": [entry]}}
    search = f"{OPENML}/api/v1/json/data/list/data_name/{name}/limit/2"
    api = f"{OPENML}/api/v1/json/data"
    answers = {
        f"{search}/status/active/": listed,
        f"{search}/data_version/{version}": listed,
        f"{api}/{number}": {"data_set_description": description},
        f"{api}/features/{number}": {"data_features": {"feature": [_feature(i, c) for i, c in enumerate(kinds)]}},
        f"{api}/qualities/{number}": {
            "data_qualities": {"quality": [{"name": "NumberOfInstances", "value": f"{len(rows)}.0"}]}
        },
    }
    web.bodies |= {url: json.dumps(answer).encode() for url, answer in answers.items()} | {file: arff}


def _attribute(column):
    name, kind, _ = column
    values = kind if isinstance(kind, str) else ",".join(f"'{value}'" for value in kind).join("{}")
    return f"@ATTRIBUTE {name} {values}"


def _feature(index, column):
    name, kind, fact = column
    facts = {f: "true" if f == fact else "false" for f in ("is_target", "is_ignore", "is_row_identifier")}
    missing = {"area": 1, "colour": 1}.get(name, 0)
    nominal = {} if isinstance(kind, str) else {"nominal_values": kind}
    own = {"index": str(index), "name": name, "data_type": kind if isinstance(kind, str) else "nominal"}
    return own | nominal | facts | {"number_of_missing_values": str(missing)}
