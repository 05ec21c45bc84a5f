"""Our launcher's door to Hydra, which looks for plugins here alone and imports all of them.

What raises here breaks every Hydra application in the environment: nothing but Hydra is imported before it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LossbenchLauncherConf:
    """`hydra/launcher=lossbench`, which is our default."""

    _target_: str = "hydra_plugins.lossbench_launcher.LossbenchLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="lossbench", node=LossbenchLauncherConf, provider="lossbench")


class LossbenchLauncher(Launcher):
    """Trains the jobs of a sweep together, as rows of shared stacks. For lossbench's own command only."""

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives, until there is something to launch."""
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """One `JobReturn` per job, in their order; its value is that of `lossbench.cli.hydra.launcher`."""
        from lossbench.cli.hydra.launcher import launch

        return launch(self, job_overrides, initial_job_idx)
