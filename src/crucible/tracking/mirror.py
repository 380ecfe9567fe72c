"""Starting the mirror: a process of its own that the training never waits for."""

import os
import subprocess
import sys
from pathlib import Path


class Mlflow:
    """Mirror the run's journal into MLflow.

    Args:
        folder: the run folder. root: the project, home of the default store; other runs there that are behind follow.
        uri: the tracking URI; None: sqlite:///mlflow.db in the project root.
        experiment: MLflow's name for a collection of runs.
    """

    def __init__(self, folder: Path, root: Path, *, uri: str | None, experiment: str) -> None:
        uri = uri or f"sqlite:///{root / 'mlflow.db'}"
        self._command = [sys.executable, "-m", "crucible.tracking.mlflow", str(folder.absolute())]
        self._command += ["--uri", uri, "--experiment", experiment, "--root", str(root)]
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a process that follows this one's journal to its end."""
        self._launch("--follow", str(os.getpid()))

    def refresh(self) -> None:
        """Start a process that mirrors what is there now."""
        self._launch()

    def _launch(self, *more: str) -> None:
        quiet = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
        with (self._folder / "mirror.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | quiet,
            )


class Nothing:
    """No mirror: the journal alone."""

    def __init__(self, folder: Path, root: Path) -> None:
        """Take what the other takes."""

    def start(self) -> None:
        """Start nothing."""

    def refresh(self) -> None:
        """Start nothing."""
