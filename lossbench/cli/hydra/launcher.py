"""The Hydra launcher: it trains the missing trials of all jobs together, then lets Hydra run job by job.

Each job keeps the folder, configuration files and callbacks that Hydra makes for it. But training comes before the
first of them, so `hydra.job.env_set` and `hydra.job.chdir` have no effect on it.
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
    """Train the jobs and return one `JobReturn` for each, in their order. `first`: the number of the first one."""
    jobs, config = launcher.task_function, launcher.config
    if not isinstance(jobs, Jobs):
        raise InvalidValue("hydra/launcher=lossbench launches lossbench's own jobs only: use basic here.")
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    # 1. compose every job, then resolve it
    configs = []
    for number, overrides in enumerate(job_overrides, start=first):
        job_config = launcher.hydra_context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(job_config):
            job_config.hydra.job.id = job_config.hydra.job.num = number
        configs.append(job_config)
    resolved = []
    for job_config in configs:
        with _set_hydra_config(job_config):
            settings = job_config.copy()
            with open_dict(settings):
                del settings["hydra"]
            resolved.append(jobs.resolve(settings))
    # 2. train them together
    jobs.train(resolved)
    # 3. let Hydra run each: it gets the result that is there already
    return [_return_job(launcher, jobs, job_config, job) for job_config, job in zip(configs, resolved, strict=True)]


@contextmanager
def _set_hydra_config(config: DictConfig) -> Iterator[None]:
    """Make `${hydra:...}` readable, as in `output=${hydra:runtime.output_dir}`."""
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


def _return_job(launcher: "LossbenchLauncher", jobs: Jobs, config: DictConfig, job: Job) -> JobReturn:
    result = run_job(
        task_function=lambda _: jobs.finish_job(job),
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=launcher.hydra_context,
    )
    configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)  # run_job has changed it
    return result
