"""Entry point of the command line: help and exit codes.

A bare word as first argument is a command, as in `lossbench losses`; otherwise Hydra parses the arguments.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from functools import partial

from lossbench.cli.output import OutputMode, take_mode
from lossbench.errors import LossbenchError

HELP = """\
lossbench: choose a training loss with evidence.

  lossbench task=regression loss=huber                      5 seeds x corruption rates 0, 0.1, 0.2, 0.4
  lossbench task=regression 'losses=[mse,huber,tukey]'      several losses, trained together; losses=all: every loss
  lossbench 'losses=[mse,huber]' 'lr=[0.001,0.003]'         all combinations of the lists, in one table
  lossbench task=multiclass seeds=1 'rates=[0]'             one seed, no corruption
  lossbench losses=shortlist protocol=tuned                 each loss at its best learning rate, and a verdict
  lossbench experiment=label_noise                          a preset
  lossbench -m model=mlp,linear 'loss=glob(*)'              a Hydra sweep; its jobs train together, too

Choices        task= data= model= loss= weighting= corruption=       (fields: loss.delta=2, model.width=128)
Settings       losses= weightings= corruptions= datasets= seeds= rates= epochs= batch_size= lr= metric= head=
               validation= evaluations= precision= optimizer.* clip.* split.* output= workers= plugins= protocol.*
Take lists     losses= weightings= corruptions= datasets= seeds= rates= lr= and optimizer.weight_decay,
               optimizer.warmup, clip.threshold
Protocols      protocol=quick (5 seeds, untuned)   tuned (equal grid of learning rates, then 20 fresh seeds)
               rigorous (40 seeds, several data sets and corruptions)
Lists          lossbench losses [--task TASK]    also tasks, datasets, models, weightings, corruptions, metrics
Describe       lossbench describe huber    any name, also as other libraries spell it: describe BCEWithLogitsLoss
Check a loss   lossbench check huber        also: check huber loss.delta=2, check --all, check my_losses.py:MyLoss
Compare losses lossbench compare results    also: --baseline mse --where corruption_rate=0.4 --format csv|json|latex
               --rope 2 (percent of an error, points of other metrics)   --confidence 0.9 (a share)
Explain terms  lossbench explain aulc       the headings and words of tables; lossbench explain lists all terms
Draw losses    lossbench plot huber tukey   also: '{huber:{delta:2}}' --against AXIS --range -9,9 --output FILE.svg
Repair         lossbench repair results     check all records, and set aside what is damaged
Plug-ins       lossbench 'plugins=[my_losses.py]' loss=mine    list what is installed: lossbench plugins
Output         --quiet (nothing but errors)   --json (one JSON document, for programs)
Hydra          --cfg job (show the configuration)   -m (sweep)   --hydra-help
Other          --debug (tracebacks)   --version   --help
Exit codes     0 done   1 some trials, jobs or checks failed   2 bad input   3 a bug   130 stopped by Ctrl-C
"""
INTERRUPTED = "stopped. What is on record stays; the same command trains the rest."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done, 1 some trials, jobs or checks failed, 2 bad input, 3 a bug, 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    report = partial(
        _report_error, debug="--debug" in words, mode=OutputMode.JSON if "--json" in words else OutputMode.TABLE
    )
    try:
        mode, words = take_mode([word for word in words if word != "--debug"])
        code = _dispatch(words, mode)
        sys.stdout.flush()  # a closed pipe has to show here, where it is caught, and not when Python ends
    except LossbenchError as error:
        return report(error, str(error), 2)
    except KeyboardInterrupt as error:
        return report(error, str(error) or INTERRUPTED, getattr(error, "code", 130))
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into sys.exit(1)
            return report(error.__context__, INTERRUPTED, 130)
        if isinstance(error.__context__, BrokenPipeError):  # and so does Rich with a closed pipe
            return 0
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError:  # the reader has gone, as in `lossbench losses | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return 0
    except Exception as error:  # a bug of lossbench or of a plug-in: one line, and how to see more
        first_line = (str(error).splitlines() or [""])[0]
        return report(error, f"{type(error).__name__}: {first_line} (--debug shows where)", 3)
    return code


def _report_error(error: BaseException, message: str, code: int, debug: bool, mode: OutputMode) -> int:
    """Print the message and return the exit code; with --debug raise the error itself, for its traceback."""
    if debug:
        raise error
    if mode is OutputMode.JSON:  # standard output holds a document, whatever happens
        print(json.dumps({"error": message}))
    print(f"lossbench: {message}", file=sys.stderr)
    return code


def _dispatch(words: list[str], mode: OutputMode) -> int:
    if {"--help", "-h"} & set(words):
        print(HELP, end="")
        return 0
    if "--version" in words:
        from lossbench import __version__

        print(f"lossbench {__version__}")
        return 0
    # imported late: help and version must not wait for Hydra or torch
    if words and re.fullmatch(r"\w[\w-]*", words[0]):
        from lossbench.cli.commands import run_command

        return run_command(words[0], words[1:], mode)
    from lossbench.cli.hydra.app import run_hydra

    return run_hydra(words, mode)
