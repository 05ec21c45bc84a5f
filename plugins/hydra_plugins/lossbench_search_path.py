"""Where lossbench finds the presets and studies that other packages ship. No other Hydra application is changed.

What raises here breaks every Hydra application in the environment: nothing but Hydra is imported before it is used.
"""

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.plugins.search_path_plugin import SearchPathPlugin


class LossbenchSearchPath(SearchPathPlugin):
    """Appends `pkg://<package>` for each entry point `lossbench.configs`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Hydra calls it whenever it is set up; it does nothing unless that is for lossbench's own configuration."""
        if search_path.find_first_match(SearchPathQuery("main", "pkg://lossbench.configs")) < 0:
            return
        from lossbench.config.presets import BUILT_IN, list_packages

        for package in list_packages():
            if package.name != BUILT_IN:
                search_path.append(package.source, f"pkg://{package.name}")
