"""What a notebook needs: `crucible.load`, `crucible.train`, `crucible.runs`, `crucible.look`; the same as the commands do."""

import html
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from crucible.app.cli import perform
from crucible.app.quoting import in_quotes
from crucible.app.runs import runs as run_lines
from crucible.app.unfinished import usable_run
from crucible.data.card import Card, read_card
from crucible.errors import Refusal
from crucible.files import CURVES, SUMMARY
from crucible.inference.predict import Answers, answers, examples_of
from crucible.inference.saved_run import Saved, load_run, read_config
from crucible.report.screen import gap, result, verdict
from crucible.tracking.curves import read_curves

if TYPE_CHECKING:
    import pandas as pd

    from crucible.app.look.suggestion import Looked


class Run:
    """A run as an object: ask it, judge it, read what it was.

    Args:
        folder: of the run.

    Attributes:
        folder: of the run. config: as it was composed. card: of its data. summary: of train.json, and of metrics.json once the test split
            was looked at.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = read_config(folder)
        self.card: Card = read_card(folder)

    @cached_property
    def saved(self) -> Saved:
        """Task, model and weights, loaded when they are first asked for; on the CPU."""
        return load_run(self.folder, torch.device("cpu"))

    @property
    def summary(self) -> dict[str, Any]:
        """Everything that was measured: train and dev, and test where it was looked at; gap, verdict, advice."""
        file = self.folder / "metrics.json" if (self.folder / "metrics.json").exists() else self.folder / SUMMARY
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found

    @property
    def history(self) -> "pd.DataFrame":
        """The numbers of every epoch, a row each: train/loss, dev/loss, dev/error, lr, ..."""
        import pandas as pd

        return pd.DataFrame(read_curves(self.folder / CURVES)).set_index("epoch")

    def ask(self, inputs: Any) -> Answers:
        """Return the answers to new examples, as objects, and how far they can be trusted.

        Args:
            inputs: as of `predict`.

        Raises:
            Refusal: they are not what the run takes.
        """
        return answers(self.saved, examples_of(inputs, self.saved))

    def predict(self, inputs: Any) -> "pd.DataFrame":
        """Return what the run says of new examples: input, predicted, and the probability of each class.

        Args:
            inputs: a file or folder, several of them, an array (N, ...), a DataFrame of pandas or polars, or lines of text.

        Raises:
            Refusal: they are not what the run takes.
        """
        import pandas as pd

        said = self.ask(inputs)
        for note in said.notes:
            print(f"note: {note}", file=sys.stderr)
        rows = [{"input": each.name, "predicted": each.predicted, **each.shares} for each in said.found]
        return pd.DataFrame(rows, columns=None if rows else ["input", "predicted"])

    def evaluate(self, *words: str) -> dict[str, Any]:
        """Look at the test split, as evaluate.py does, and return its numbers; or judge other data: "data=table", "data.path=...".

        Raises:
            Refusal: as evaluate.py refuses.
        """
        found: dict[str, Any] = perform("evaluate", [f"run={self.folder}", *words])
        return found

    def __repr__(self) -> str:
        return f"<crucible run {self.folder}: {result(self.summary)}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: result, verdict, gap, advice."""
        summary = self.summary
        advice = summary["diagnosis"]["advice"][0]
        lines = [result(summary), gap(summary), advice["why"]]
        body = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line)
        command = f"<pre>{html.escape(advice['command'])}</pre>" if advice["command"] else ""
        return f"<div><b>{html.escape(str(self.folder))}: {html.escape(verdict(summary['diagnosis']))}</b>{body}{command}</div>"


def load(name: str | Path = "latest") -> Run:
    """Return a run: by its folder, "latest", the name it was given (run_name), or its id in MLflow.

    One that was stopped, or still trains, is that of its best weights so far.

    Raises:
        Refusal: there is none.
    """
    return Run(usable_run(str(name)))


def train(*words: str, **choices: Any) -> Run:
    """Train as train.py does, and return the run.

    Args:
        words: as on the command line: "optimizer.lr=0.003". choices: model="resnet", trainer={"total_epochs": 5}, seed=3.

    Raises:
        Refusal: as train.py refuses.
    """
    perform("train", [*words, *_words(choices)])
    return Run(Path("outputs/latest").resolve())


def runs() -> "pd.DataFrame":
    """Return the runs of this project as a table, the newest first."""
    import pandas as pd

    return pd.DataFrame([line.as_dict() for line in run_lines()])


def look(path: str | Path, *words: str) -> "Looked":
    """Return what a file or folder holds, and the words of the command that trains on it (`.words`).

    Raises:
        Refusal: nothing reads it.
    """
    from crucible.app.look.suggestion import looked_at

    return looked_at(Path(path).expanduser(), words)


def _words(choices: Mapping[str, Any]) -> list[str]:
    """Return keyword arguments as words of the command line; a dictionary holds keys of its group."""
    found = []
    for key, value in choices.items():
        found += (
            [f"{key}.{inner}={_typed(each)}" for inner, each in value.items()]
            if isinstance(value, Mapping)
            else [f"{key}={_typed(value)}"]
        )
    return found


def _typed(value: Any) -> str:
    """Return a value as the command line takes it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_inner, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_inner(key)}:{_inner(each)}" for key, each in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _inner(value: Any) -> str:
    """Return a value within a list or a dictionary: text in quotes, so that its commas and brackets stay."""
    return in_quotes(f"={value}")[1:] if isinstance(value, str) else _typed(value)


__all__ = ["Refusal", "Run", "load", "look", "runs", "train"]
