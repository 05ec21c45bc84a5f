"""Training in the process that asked for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lossbench.runner.executors import Events, Part


class _Raised(BaseException):
    """What a reporter has raised: no `Exception`, as training records those as failures of the trials."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class LocalExecutor:
    """Trains one part after the other, in this process."""

    def __init__(self, started: float) -> None:
        self.started = started  # when the run began, `time.time()`

    def run(self, next_part: Callable[[], Part | None], events: Events) -> None:
        """Train parts until there are no more, or until `events.stopping()`."""
        from lossbench.training.checkpoint import Stopped, Watch
        from lossbench.training.run import attempt  # Lightning loads only in a process that trains

        while not events.stopping() and (part := next_part()):
            watch = Watch(_progress(events, part), events.stopping, part.checkpoints, self.started)
            try:
                with _as_raised():
                    found = attempt(part.stack, watch)
            except Stopped:
                events.ended(part, None)
                return
            events.ended(part, found)


def _progress(events: Events, part: Part) -> Callable[[int, int, int], None]:
    def tell(n_replicas: int, step: int, n_steps: int) -> None:
        try:
            events.progress(part, n_replicas, step, n_steps)
        except Exception as error:
            raise _Raised(error) from error

    return tell


@contextmanager
def _as_raised() -> Iterator[None]:
    """Undo what became of an exception on its way through Lightning and the records."""
    try:
        yield
    except _Raised as raised:
        raise raised.error from None
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into sys.exit(1)
            raise error.__context__ from None
        raise
