"""Draws what trials on record have read in their first test examples: docs/pictures/<task>-predictions.png.

    python scripts/predictions.py results/boxes/giou/digit_boxes-cnn_flat-1234abcd ...

One page per folder: the finished trial of the lowest rate and seed, at its last epoch.
"""

import sys
from pathlib import Path

import numpy as np

from lossbench.records import Results, load
from lossbench.report.figures.gallery import draw_gallery, render_png

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
N_SHOWN = 10


def page(results: Results) -> bytes:
    """Ten examples, what they are and what was predicted."""
    samples = results.samples
    assert samples is not None, "this task has no pictures"
    trial = results.trials[results.trials.status == "finished"].sort_values(["corruption_rate", "seed"]).trial.iloc[0]
    rows = results.predictions[(results.predictions.trial == trial) & (results.predictions.epoch == "last")]
    predicted = np.stack(rows["values"].to_list())[:N_SHOWN]
    shown = slice(N_SHOWN)
    return render_png(
        draw_gallery(samples.kind, samples.inputs[shown], samples.targets[shown], predicted, samples.class_names)
    )


def main() -> None:
    """One page per folder."""
    for folder in map(Path, sys.argv[1:]):
        results = load(folder)
        (FOLDER / f"{results.trials.task.iloc[0]}-predictions.png").write_bytes(page(results))


if __name__ == "__main__":
    main()
