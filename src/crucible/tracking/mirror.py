"""Starting the mirror: a process of its own that the training never waits for; and fetching a run's files from MLflow."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from crucible.errors import Refusal
from crucible.text import HIDDEN, redacted
from crucible.tracking.journal import NAME
from crucible.tracking.records import STORE

QUIET = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}

FETCHED = ("runs:/", "models:/")


def fetch(source: str, uri: str, folder: Path) -> Path:
    """Return a local copy of the run that MLflow knows as runs:/ID, models:/NAME@ALIAS or models:/NAME/VERSION.

    Another process asks MLflow, so that this one need not import it.

    Raises:
        Refusal: there is no such run, it holds no weights, or the store cannot be reached.
    """
    words = [sys.executable, "-m", "crucible.tracking.mlflow", source, "--fetch", str(folder)]
    store = {STORE: whole(uri)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | QUIET | store)
    if done.returncode:
        why = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no answer")
        raise Refusal(
            f"transfer.source={source}", redacted(why), allowed="runs:/ID, models:/NAME@ALIAS or models:/NAME/VERSION of this store",
            example="tracking.uri=http://127.0.0.1:5000 names another store",
        )  # fmt: skip
    return Path(done.stdout.splitlines()[-1])


def whole(uri: str) -> str:
    """Return the address of a store with its password: where a run's record hides it, from MLFLOW_TRACKING_URI.

    Where that is another store, or nothing, the address stays as it is: the store refuses it, and the run is mirrored at
    the next start that knows the password.
    """
    known = os.environ.get("MLFLOW_TRACKING_URI", "")
    return known if f":{HIDDEN}@" in uri and redacted(known) == uri else uri


@runtime_checkable
class Mirror(Protocol):
    """What follows a run folder."""

    def start(self) -> None:
        """Follow the training of this process to its end."""

    def refresh(self) -> None:
        """Take over what is there now."""


class Mlflow:
    """Mirror the run's journal into MLflow.

    Args:
        folder: the run folder. root: the project, home of the default store; other runs there that are behind follow.
        uri: the tracking URI; None: sqlite:///mlflow.db in the project root.
        experiment: MLflow's name for a collection of runs.
    """

    def __init__(self, folder: Path, root: Path, *, uri: str | None, experiment: str) -> None:
        uri = whole(uri or f"sqlite:///{root / 'mlflow.db'}")
        self._command = [sys.executable, "-m", "crucible.tracking.mlflow", str(folder.absolute())]
        self._command += ["--experiment", experiment, "--root", str(root)]
        self._folder, self._uri, self._experiment = folder, uri, experiment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a process that follows this one's journal to its end."""
        self._launch("--follow", str(os.getpid()))

    def refresh(self) -> None:
        """Start a process that mirrors what is there now."""
        self._launch()

    def _launch(self, *more: str) -> None:
        try:
            with (self._folder / "mirror.log").open("ab") as log:
                self.process = subprocess.Popen(
                    [*self._command, *more],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=os.environ | QUIET | {STORE: self._uri},
                )
        except (
            OSError
        ) as error:  # no process is to be had, or no room: training goes on, and the next start finds it behind
            print(f"warning: no mirror ({error.strerror}); the next training mirrors this run, too", file=sys.stderr)
            with suppress(OSError):
                self._claim()

    def _claim(self) -> None:
        from crucible.tracking.mlflow import Mirror  # MLflow itself is not imported by it

        Mirror(self._folder / NAME, self._uri, self._experiment).claim()


class Nothing:
    """No mirror: the journal alone."""

    def __init__(self, folder: Path, root: Path) -> None:
        """Take what the other takes."""

    def start(self) -> None:
        """Start nothing."""

    def refresh(self) -> None:
        """Start nothing."""
