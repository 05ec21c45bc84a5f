"""The command line. A bare word as first argument is a verb; anything else is an experiment, parsed by Hydra."""

import os
import sys
from collections.abc import Sequence

from lossbench.errors import LossbenchError

HELP = """\
lossbench: choose a training loss with evidence.

  lossbench task=regression loss=huber                      5 seeds x rates 0, 0.1, 0.2, 0.4, one stacked fit
  lossbench task=regression 'losses=[mse,huber,tukey]'      several losses, trained together
  lossbench task=multiclass seeds=1 'rates=[0]'             one plain run
  lossbench experiment=label_noise                          a preset

Choices        task= data= model= loss= weighting= corruption=       (fields: loss.delta=2, model.width=128)
Settings       losses= seeds= rates= epochs= batch_size= lr= metric= head= validation= evaluations= precision=
               optimizer.* clip.* split.* output= progress=
Lists          lossbench losses [TASK]    also: tasks, datasets, models, weightings, corruptions, metrics
Hydra          --cfg job (show the configuration)   -m (sweep)   --hydra-help
Other          --debug (tracebacks)   --version   --help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 1 some trials failed, 2 bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [a for a in given if a != "--debug"]
    try:
        return _dispatch(given)
    except LossbenchError as error:
        if debug:
            raise
        print(f"lossbench: {error}", file=sys.stderr)
        return 2


def _dispatch(given: list[str]) -> int:
    if {"--help", "-h"} & set(given):
        print(HELP, end="")
        return 0
    if "--version" in given:
        from lossbench import __version__

        print(f"lossbench {__version__}")
        return 0
    if given and not given[0].startswith("-") and "=" not in given[0]:
        from lossbench.cli.verbs import run_verb

        return run_verb(given[0], given[1:])
    # Hydra prints its own short errors and exits with 1 unless this is set; ours are shorter, and exit with 2
    os.environ["HYDRA_FULL_ERROR"] = "1"
    from lossbench.cli.hydra_app import run_hydra

    return run_hydra(given)
