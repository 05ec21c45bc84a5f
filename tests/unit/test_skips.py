"""What the suite's conftest demands of its own runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = {
    "tests/stack/test_cuda.py": "import pytest\n\n@pytest.mark.skip(reason='needs a CUDA device')\ndef test(): pass\n",
    "tests/test_hidden.py": "import pytest\n\npytest.importorskip('no_such_package')\n\ndef test(): pass\n",
    "tests/test_other.py": """
import pytest

@pytest.mark.skip(reason='needs a CUDA device')
def test_elsewhere(): pass

@pytest.mark.xfail(reason='known')
def test_known(): assert False

def test_fine(): pass
""",
}
LISTED = ["tests/stack", "tests/test_other.py::test_fine"]
RUNS = {"one process": [], "workers": ["-n", "1"], "listed skips alone": LISTED}
SCRIPT = """
import json, sys, pytest
codes = {}
for name, options in json.loads(sys.argv[1]).items():
    print("run:", name)
    codes[name] = pytest.main(["--rootdir=.", "-q", "-p", "conftest", "-p", "no:cacheprovider", *options])
print("codes:", json.dumps(codes))
"""
"""All runs in one process: each would import PyTorch anew."""


@pytest.mark.slow
def test_a_skip_that_is_not_listed_fails_the_run_and_is_named(tmp_path):
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(RUNS)],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    _, *runs, last = done.stdout.replace("codes:", "run:").split("run:")
    assert json.loads(last) == {"one process": 1, "workers": 1, "listed skips alone": 0}
    for run in runs:
        named = [line.split(": ", 1)[1] for line in run.splitlines() if "without a listed reason" in line]
        assert sorted(named) == ([] if "listed skips alone" in run else [
            "tests/test_hidden.py: could not import 'no_such_package': No module named 'no_such_package'",
            "tests/test_other.py::test_elsewhere: needs a CUDA device",
        ])  # fmt: skip
