"""What our Hydra launcher does: it trains the missing trials of all jobs together, and returns job by job.

Each job still has what Hydra gives one: its folder, configuration files and callbacks, if they are asked for. But
training comes before the first of them, so `hydra.job.env_set` and `hydra.job.chdir` do not reach it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from omegaconf import DictConfig, open_dict, read_write

from lossbench.cli.hydra.jobs import Job, Jobs
from lossbench.errors import InvalidValue

if TYPE_CHECKING:
    from hydra_plugins.lossbench_launcher import LossbenchLauncher


def launch(launcher: "LossbenchLauncher", job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Train the jobs; one `JobReturn` each, in their order. `first`: the number of the first one."""
    jobs, config = launcher.task_function, launcher.config
    if not isinstance(jobs, Jobs):
        raise InvalidValue("hydra/launcher=lossbench launches lossbench's own jobs only: use basic here.")
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    configs = [_composed(launcher, list(overrides), first + i) for i, overrides in enumerate(job_overrides)]
    resolved = [_resolve(jobs, one) for one in configs]
    jobs.train(resolved)
    return [_returned(launcher, jobs, one, job) for one, job in zip(configs, resolved, strict=True)]


def _composed(launcher: "LossbenchLauncher", overrides: list[str], number: int) -> DictConfig:
    config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, overrides)
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    return config


def _resolve(jobs: Jobs, config: DictConfig) -> Job:
    with _at_hand(config):
        own = config.copy()
        with open_dict(own):
            del own["hydra"]
        return jobs.resolve(own)


@contextmanager
def _at_hand(config: DictConfig) -> Iterator[None]:
    """`${hydra:...}` can be read, as in `output=${hydra:runtime.output_dir}`."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        folder = Path(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir))
        config.hydra.runtime.output_dir = str(folder.absolute())
    HydraConfig.instance().set_config(config)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def _returned(launcher: "LossbenchLauncher", jobs: Jobs, config: DictConfig, job: Job) -> JobReturn:
    found = run_job(
        task_function=lambda _: jobs.finish_job(job),
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=launcher.hydra_context,
    )
    configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
    return found
