"""TensorBoard's events: what event files hold."""

from collections.abc import Iterator, Mapping

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary as Value
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.text import metadata as texts
from tensorboard.util import tensor_util


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
