"""TensorBoard as a person sees it: 30 losses at 4 rates in a real browser. Skipped where there is none."""

import re
import shutil
import subprocess
import sys

import pytest
from waiting import PATIENCE, wait_until

from lossbench.records import save
from lossbench.report.tensorboard.writer import refresh

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
LOSSES = [f"loss_{n:02d}" for n in range(30)]
RATES = (0.0, 0.1, 0.2, 0.4)
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--window-size=1600,1000",
)
FIND = """
const all = (root, name, found = []) => {
  root.querySelectorAll(name).forEach(e => found.push(e));
  root.querySelectorAll('*').forEach(e => { if (e.shadowRoot) all(e.shadowRoot, name, found); });
  return found;
};
const seen = e => e.getClientRects().length > 0;
"""
"""Elements of the page, those inside others included."""
ADDRESS = re.compile(r"http://\S+:\d+/")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]


@pytest.fixture
def board(tmp_path, made_up):
    folders = [tmp_path / "regression" / loss / "friedman1-mlp-00000000" for loss in LOSSES]
    for folder, loss in zip(folders, LOSSES, strict=True):
        save(
            folder,
            [made_up(5, 20, loss=loss, corruption_rate=rate, seed=seed) for rate in RATES for seed in range(2)],
            {},
        )
    return refresh(tmp_path, folders, ended=True, predictions=True, pictures=True).boards[0]


@pytest.fixture
def address(board, tmp_path):
    log = tmp_path / "tensorboard.log"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(board), "--port", "0"]
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as server:
        try:
            wait_until(lambda: ADDRESS.search(log.read_text()), "TensorBoard listens", server)
            yield ADDRESS.search(log.read_text()).group()
        finally:
            server.terminate()


@pytest.fixture
def page(address, tmp_path):
    """`page("text", "return ...")`: what a script finds on a tab, waiting until it finds something."""
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))

    def find(tab, script):
        driver.get("about:blank")
        driver.get(f"{address}#{tab}")
        return WebDriverWait(driver, PATIENCE, 0.2).until(lambda now: now.execute_script(FIND + script))

    try:
        yield find
    finally:
        driver.quit()


def test_thirty_losses_at_four_rates_can_be_read(page):
    switched_on = page(
        "custom_scalars",
        "const boxes = all(document, 'paper-checkbox').filter(e => e.id.startsWith('checkbox-'));"
        "return boxes.length && boxes.every(e => e.checked) ? boxes.map(e => e.id.slice(9)) : null",
    )
    assert switched_on == ["(overview)", *LOSSES]
    charts = page(
        "custom_scalars",
        "const told = all(document, '*').filter(e => seen(e) && /^Matches .30.$/.test((e.innerText || '').trim()));"
        "const ends = told.filter(e => !told.some(other => other !== e && e.contains(other)));"
        "return ends.length >= 4 ? ends.length : null",
    )
    assert charts == len(RATES)  # all losses, at each rate, of the primary metric: other groups are closed
    columns = page(
        "hparams",
        "const cells = all(document, 'vaadin-grid-cell-content').map(e => e.innerText.trim());"
        "return cells.includes('loss_00') ? cells : null",
    )
    assert {"loss", *(f"mae at {rate:g}" for rate in RATES)} <= set(columns)
    said = "all(document, '*').map(e => e.innerText || '').find(text => /^Corruption rate 0.4:/m.test(text))"
    assert "cannot be told apart" in page("text", f"return {said}")
    width = page("images", "return all(document, 'img').filter(seen).map(e => e.naturalWidth).find(w => w > 500)")
    assert width > 900
