"""`eval "$(lossbench -sc install=bash)"`: Hydra's completion knows the names that plug-ins add."""

import shutil
import subprocess

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def completed(lossbench, monkeypatch):
    """`completed("lossbench loss=hu")`: what bash would offer, as its function asks for it."""

    def ask(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        code, out, err = lossbench("-sc", "query=bash")
        assert (code, err) == (0, "")
        return out.split()

    return ask


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("loss=hu", ["loss=huber"]),
        ("task=cou", ["task=counts"]),
        ("task=counts loss=trimm", ["loss=trimmed_mae"]),
        ("loss=gentle", ["loss=gentle_trim"]),
        ("task=counts weighting=til", ["weighting=tilted"]),
        ("experiment=exa", ["experiment=example_study"]),
        ("loss=trimmed_mae loss.c", ["loss.cut="]),
        ("loss=no_such", []),
        ("loss=timm/z", ["loss=timm/zlpr"]),
        ("loss=default/", []),
        ("loss/", []),
    ],
)
def test_names_and_fields_are_completed(completed, typed, offered):
    assert completed(f"lossbench {typed}") == offered


def test_bash_takes_what_is_to_be_evaluated(lossbench, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/lossbench"])
    code, out, err = lossbench("-sc", "install=bash")
    assert (code, err) == (0, "")
    bash = shutil.which("bash")
    told = subprocess.run([bash, "-c", f"{out}\ncomplete -p lossbench"], capture_output=True, text=True, check=True)
    assert told.stdout.endswith("-F hydra_bash_completion lossbench\n")
