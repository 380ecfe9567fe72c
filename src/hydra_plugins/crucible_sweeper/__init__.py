"""Hydra's -m, handed to the search: python src/train.py -m sweep=coarse_to_fine."""

from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class CrucibleSweeper(Sweeper):
    """Passes on what the command line says; every Hydra start imports this file, so it imports nothing more.

    Args:
        settings: the keys of `hydra.sweeper` (see conf/sweep).
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
                         for key, value in settings.items()}  # fmt: skip
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the composition of the sweep itself."""
        self.config = config
        HydraConfig.instance().set_config(config)

    def sweep(self, arguments: list[str]) -> Any:
        """Search, and show the last screen."""
        from crucible.app.compose import guarded
        from crucible.app.search.run import sweep

        config = self.config
        assert config is not None  # setup came first
        GlobalHydra.instance().clear()  # each trial is a composition of its own
        guarded(lambda: sweep(config.hydra, self.settings, arguments))
