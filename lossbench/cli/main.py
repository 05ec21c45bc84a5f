"""The command line's entry: its help, its exit codes. A bare word as first argument is a verb; else Hydra parses."""

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial

from lossbench.cli.output import OutputMode, take_mode
from lossbench.errors import LossbenchError

HELP = """\
lossbench: choose a training loss with evidence.

  lossbench task=regression loss=huber                      5 seeds x rates 0, 0.1, 0.2, 0.4, one stacked fit
  lossbench task=regression 'losses=[mse,huber,tukey]'      several losses, trained together; losses=all: every one
  lossbench 'losses=[mse,huber]' 'lr=[0.001,0.003]'         all combinations of the lists, one table
  lossbench task=multiclass seeds=1 'rates=[0]'             one plain run
  lossbench losses=shortlist protocol=tuned                 each loss at its best learning rate; a verdict
  lossbench experiment=label_noise                          a preset
  lossbench -m model=mlp,linear 'loss=glob(*)'              a sweep of Hydra's: its jobs train together, too

Choices        task= data= model= loss= weighting= corruption=       (fields: loss.delta=2, model.width=128)
Settings       losses= weightings= corruptions= datasets= seeds= rates= epochs= batch_size= lr= metric= head=
               validation= evaluations= precision= optimizer.* clip.* split.* output= workers= plugins= protocol.*
Take lists     losses= weightings= corruptions= datasets= seeds= rates= lr= and optimizer.weight_decay,
               optimizer.warmup, clip.threshold
Protocols      protocol=quick (5 seeds, untuned)   tuned (equal grid of learning rates, then 20 fresh seeds)
               rigorous (40 seeds, several data sets and corruptions)
Lists          lossbench losses [--task TASK]    also: tasks, datasets, models, weightings, corruptions, metrics
One name       lossbench describe huber    of any kind, or as other libraries call it: describe BCEWithLogitsLoss
Check a loss   lossbench check huber        also: check huber loss.delta=2, check --all, check my_losses.py:MyLoss
Compare losses lossbench compare results    also: --baseline mse --where corruption_rate=0.4 --format csv|json|latex
Draw losses    lossbench plot huber tukey   also: '{huber:{delta:2}}' --against AXIS --range -9,9 --output FILE.svg
Your own       lossbench 'plugins=[my_losses.py]' loss=mine    what is installed: lossbench plugins
Output         --quiet (nothing but errors)   --json (one JSON document, for programs)
Hydra          --cfg job (show the configuration)   -m (sweep)   --hydra-help
Other          --debug (tracebacks)   --version   --help
Exit codes     0 done   1 some trials, jobs or checks failed   2 bad input   3 a bug   130 stopped by Ctrl-C
"""
INTERRUPTED = "stopped. What is on record stays; the same command trains the rest."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code.

    0 done, 1 some trials, jobs or checks failed, 2 bad input, 3 a bug, 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    refuse = partial(_refuse, debug="--debug" in given, mode=OutputMode.JSON if "--json" in given else OutputMode.TABLE)
    try:
        mode, given = take_mode([a for a in given if a != "--debug"])
        return _flushed(_dispatch(given, mode))
    except LossbenchError as error:
        return refuse(error, str(error), 2)
    except KeyboardInterrupt as error:
        return refuse(error, str(error) or INTERRUPTED, getattr(error, "code", 130))
    except SystemExit as error:
        return _exit_code(error, refuse)
    except BrokenPipeError:  # the reader has gone, as in `lossbench losses | head -1`
        _drop_output()
        return 0
    except Exception as error:  # a bug of ours or of a plugin: one line, and how to see more
        text = (str(error).splitlines() or [""])[0]
        return refuse(error, f"{type(error).__name__}: {text} (--debug shows where)", 3)


def _refuse(error: BaseException, message: str, code: int, debug: bool, mode: OutputMode) -> int:
    if debug:
        raise error
    if mode is OutputMode.JSON:  # standard output holds a document, whatever happens
        print(json.dumps({"error": message}))
    print(f"lossbench: {message}", file=sys.stderr)
    return code


def _exit_code(error: SystemExit, refuse: Callable[[BaseException, str, int], int]) -> int:
    if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into sys.exit(1)
        return refuse(error.__context__, INTERRUPTED, 130)
    if isinstance(error.__context__, BrokenPipeError):  # and so does Rich with a closed pipe
        return 0
    return error.code if isinstance(error.code, int) else int(error.code is not None)


def _flushed(code: int) -> int:
    sys.stdout.flush()  # here, where a closed pipe is caught, and not when Python ends
    return code


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(given: list[str], mode: OutputMode) -> int:
    if {"--help", "-h"} & set(given):
        print(HELP, end="")
        return 0
    if "--version" in given:
        from lossbench import __version__

        print(f"lossbench {__version__}")
        return 0
    if given and re.fullmatch(r"\w[\w-]*", given[0]):
        from lossbench.cli.commands import run_command

        return run_command(given[0], given[1:], mode)
    from lossbench.cli.hydra.app import run_hydra

    return run_hydra(given, mode)
