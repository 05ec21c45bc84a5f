"""TensorBoard's event files, which are written whole or not at all.

Written by TensorBoard's own record writer, all at once: no thread, no file kept open, no torch.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

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
