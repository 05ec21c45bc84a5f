"""TensorBoard's events, and the files of a run that hold them, written whole or not at all."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary as Value
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.text import metadata as texts
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

CURVES, PICTURES = "lossbench", "pictures"
"""How the names of event files end."""


def is_written(run: Path, digest: str, ending: str = CURVES) -> bool:
    """Tell whether the run has such a file of just that content."""
    return any(run.glob(f"*tfevents*.{digest}.{ending}"))


def put(run: Path, events: Sequence[Event], digest: str, ending: str = CURVES) -> None:
    """Write an event file of a run, whole or not at all, in place of the one with that ending; no events: none.

    digest: stands for the content, for `is_written`.
    """
    run.mkdir(parents=True, exist_ok=True)
    temporary = run / ".writing"  # TensorBoard reads every file whose name holds "tfevents"
    try:
        with temporary.open("wb") as stream:
            writer = RecordWriter(stream)
            for event in events:
                writer.write(event.SerializeToString())
        for old in run.glob(f"*tfevents*.{ending}"):
            old.unlink()
        if events:
            temporary.rename(run / _name(digest, ending))
    finally:
        temporary.unlink(missing_ok=True)
    if ending == CURVES:
        _show_again(run)


def _show_again(run: Path) -> None:
    """Let a running TensorBoard read pictures once more, as it has forgotten them with the curves."""
    for path in run.glob(f"*tfevents*.{PICTURES}"):
        path.rename(run / _name(*path.name.split(".")[-2:]))


def _name(digest: str, ending: str) -> str:
    """A new name each time: a running TensorBoard reads on in files that it knows."""
    return f"events.out.tfevents.{time.time_ns()}.{digest}.{ending}"


def beginning(since: float) -> Iterator[Event]:
    """Yield what a file starts with; since: seconds since 1970, by which TensorBoard sorts runs, then by name."""
    yield Event(wall_time=since, file_version="brain.Event:2")
    # Makes a running TensorBoard forget what it read from the file that this one replaces.
    yield Event(wall_time=since, step=0, session_log=SessionLog(status=SessionLog.START))


def scalars(values: Mapping[str, float]) -> Value:
    """Return one number per tag."""
    return Value(value=[Value.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def text(tag: str, markdown: str) -> Value:
    """Return what the TEXT tab shows, as Markdown."""
    metadata = texts.create_summary_metadata(tag, "")
    return Value(value=[Value.Value(tag=tag, metadata=metadata, tensor=tensor_util.make_tensor_proto(markdown))])


def picture(tag: str, png: bytes, size: tuple[int, int], told: str) -> Value:
    """Return what the IMAGES tab shows; size: width and height; told: what the mark beside the title tells."""
    texts = [str(side).encode() for side in size]
    tensor = tensor_util.make_tensor_proto([*texts, png])
    return Value(value=[Value.Value(tag=tag, metadata=images.create_summary_metadata(tag, told), tensor=tensor)])
