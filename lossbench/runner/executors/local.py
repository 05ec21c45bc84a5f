"""Train in the process of the caller."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lossbench.runner.executors import Events, Part


class _ReporterError(BaseException):
    """Carries an exception of a reporter through training, which records an `Exception` as a failure of the trials."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class LocalExecutor:
    """Trains one part after the other, in this process."""

    def __init__(self, started: float) -> None:
        self.started = started  # when the run began, `time.time()`

    def run(self, next_part: Callable[[], Part | None], events: Events) -> None:
        """Train parts until there are no more, or until `events.stopping()`."""
        from lossbench.training.checkpoint import CheckpointCallback, TrainingStopped
        from lossbench.training.run import run_stack_or_fail  # Lightning loads only in a process that trains

        while not events.stopping() and (part := next_part()):
            callback = CheckpointCallback(_make_progress(events, part), events.stopping, part.checkpoints, self.started)
            try:
                with _restore_errors():
                    records = run_stack_or_fail(part.stack, callback)
            except TrainingStopped:
                events.ended(part, None)
                return
            events.ended(part, records)


def _make_progress(events: Events, part: Part) -> Callable[[int, int, int], None]:
    def report_progress(n_replicas: int, step: int, n_steps: int) -> None:
        try:
            events.progress(part, n_replicas, step, n_steps)
        except Exception as error:
            raise _ReporterError(error) from error

    return report_progress


@contextmanager
def _restore_errors() -> Iterator[None]:
    """Raise the original exceptions of reporters and of Ctrl-C, which have come through Lightning as others."""
    try:
        yield
    except _ReporterError as error:
        raise error.error from None
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into sys.exit(1)
            raise error.__context__ from None
        raise
