"""Training in the process that asked for it."""

from collections.abc import Callable
from functools import partial

from lossbench.runner.executors import Events, Part


class LocalExecutor:
    """Trains one part after the other, in this process."""

    n_workers = 0

    def __init__(self, started: float) -> None:
        self.started = started  # when the run began, `time.time()`

    def run(self, next_part: Callable[[], Part | None], events: Events) -> None:
        """Train parts until there are no more, or until `events.stopping()`."""
        from lossbench.training.checkpoint import Stopped, Watch
        from lossbench.training.run import attempt  # Lightning loads only in a process that trains

        while not events.stopping() and (part := next_part()):
            watch = Watch(partial(events.progress, part), events.stopping, part.checkpoints, self.started)
            try:
                found = attempt(part.stack, watch)
            except Stopped:
                events.ended(part, None)
                return
            events.ended(part, found)
