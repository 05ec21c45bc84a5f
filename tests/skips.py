"""A run that skips a test without a listed reason fails: a package that is not installed must not go unnoticed."""

from collections.abc import Mapping

import pytest


class SkipCheck:
    """Fail the run where a test is skipped that `allowed` does not list.

    allowed: reasons by the start of the test's id, `tests/stack/test_cuda.py` or one test of a file. Both must fit.

    With pytest-xdist the main process hears the reports of all workers, so that it belongs there alone.
    """

    def __init__(self, allowed: Mapping[str, str]) -> None:
        self.allowed = allowed
        self.unlisted: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Check one test."""
        if not hasattr(report, "wasxfail"):  # an expected failure is reported as skipped, too
            self._check(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Check a file that skips itself while it is imported."""
        self._check(report)

    def _check(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            reason = report.longrepr[2].removeprefix("Skipped: ")
            listed = any(report.nodeid.startswith(test) and reason == why for test, why in self.allowed.items())
            if not listed:
                self.unlisted.append(f"{report.nodeid}: {reason}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn the success of a run into a failure."""
        if self.unlisted and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what was skipped without a listed reason."""
        for test in self.unlisted:
            terminalreporter.write_line(f"SKIPPED without a listed reason (tests/conftest.py): {test}", red=True)
