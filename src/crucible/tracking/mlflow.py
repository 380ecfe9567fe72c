"""The mirror of the journal in MLflow: python -m crucible.tracking.mlflow RUN_FOLDER [--uri URI].

Whatever is killed, nothing is lost and nothing doubled: what was not recorded as sent is sent again, and MLflow takes a
point with the same name, step, time and value for the same point. Attempts are bounded; what was not mirrored is mirrored
at the next start. Passwords of stores are read, and written nowhere.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crucible.errors import Refusal
from crucible.files import CARD, CONFIG, CURVES, EVALUATION, PROGRESS, SEEN, SUMMARY, WEIGHTS, frames_of
from crucible.integrity import sha256_of
from crucible.text import redacted
from crucible.tracking.fetching import bring
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import NAME, PARENT, Event, parsed, read_events
from crucible.tracking.records import (
    LONGEST_NAME,
    STATUS,
    STORE,
    RedactedStream,
    alone,
    behind,
    flat,
    from_yaml,
    is_left,
    killed,
    lock,
    metric_name,
    plain,
    read_state,
    store_lock,
)  # fmt: skip

if TYPE_CHECKING:
    from crucible.data.card import Card

ARTIFACTS = (CONFIG, CARD, CURVES, SUMMARY, WEIGHTS, SEEN)
POINTS_PER_CALL = 500
KIND, PRIMARY = (
    "mlflow.experimentKind",
    "mlflow.experiment.primaryMetric.name",
)  # its pages: of trainings; the first chart and column
POLL_SECONDS = 1.0
QUIET_SECONDS = 20.0
MOST_FAILURES = 4
TRIALS = f"*/*/{NAME}"  # of a sweep, below its folder
NEEDED = ("torch", "numpy", "pydantic", "safetensors", "pyyaml")  # beside our own code, to serve a model elsewhere
OF_TABLES = ("polars",)
BLAMING = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")  # MLflow blames what was sent: sent again, it is refused again
OF_TRIAL = (CONFIG, CARD, CURVES, SUMMARY)  # the weights are had again by the promoting command


class Mirror:
    """One run folder in one tracking store.

    Args:
        path: the journal: journal.jsonl, or journal.<n>.jsonl of a run that stood in this folder before.
        uri: the store. experiment: MLflow's experiment name; None: the one that the run declared.
    """

    def __init__(self, path: Path, uri: str, experiment: str | None) -> None:
        self.path, self.folder, self.uri, self.key = path, path.parent, uri, redacted(uri)
        self.record = path.with_name(path.name.replace("journal", "mirror").replace(".jsonl", ".json"))
        start = next(read_events(path))
        self.journal, self.config = start["journal"], from_yaml(start.get("config", "{}"))
        self.parent = start["tags"].get(PARENT)
        self.experiment = experiment or self.config.get("tracking", {}).get("experiment") or "crucible"
        self.state = read_state(self.record).get(self.key, {})
        if self.state.get("journal") != self.journal:
            self.state = {"journal": self.journal, "run_id": None, "offset": 0, "artifacts": []}

    @cached_property
    def client(self) -> Any:
        """MLflow's client; imported here, since it takes seconds."""
        import mlflow  # the one door

        warnings.filterwarnings("ignore")
        mlflow.set_tracking_uri(self.uri)
        return mlflow.MlflowClient(self.uri)

    def sync(self) -> bool:
        """Mirror what is there and not mirrored yet; return whether the run has come to its end."""
        if next(read_events(self.path))["journal"] != self.journal:
            return True  # another run has begun here; this one's journal was set aside, and is mirrored from there
        with store_lock(self.uri):
            self._open_run()
        ended = self.state.get("ended", False)
        for events, offset in self._new_events():
            with store_lock(self.uri):
                self._log_points(events)
            for event in events:
                self._take(event)
                ended = event["kind"] in STATUS or (ended and event["kind"] != "resume")
            self._save(offset=offset, ended=ended)
        return ended

    def claim(self) -> None:
        """Leave word that this run belongs in this store, so that the next start sees it is behind."""
        self._save()

    def _open_run(self) -> None:
        _make_store(self.uri)
        if self.state["run_id"] is None:
            start = next(read_events(self.path))
            self._save(run_id=(self._found(self.journal) or self._create_run(start)).info.run_id)

    def _found(self, journal: str) -> Any:
        """Return the run that mirrors a journal; None where there is none yet."""
        found = self.client.search_runs([self._experiment_id()], f"tags.`crucible.journal` = '{journal}'")
        return found[0] if found else None

    def _experiment_id(self) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        if found is not None:
            return found.experiment_id
        local = (
            Path(self.uri.removeprefix("sqlite:///")).parent
            / "mlruns"
            / (re.sub(r"[^\w. -]", "_", self.experiment).lstrip(".") or "_")
        )
        home = local.absolute().as_uri() if self.uri.startswith("sqlite:") else None
        tags = {KIND: "custom_model_development", PRIMARY: f"dev/{self.config.get('task', {}).get('monitor', 'loss')}"}
        return self.client.create_experiment(self.experiment, artifact_location=home, tags=tags)

    def _create_run(self, start: Event) -> Any:
        name = plain(start["name"])[:LONGEST_NAME]
        tags = {key: plain(value) for key, value in start["tags"].items()}
        tags |= {
            "mlflow.runName": name,
            "crucible.journal": self.journal,
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": "src/train.py",
        }
        tags |= {
            own: tags[key]
            for own, key in (("mlflow.user", "user"), ("mlflow.source.git.commit", "git.commit"))
            if tags.get(key)
        }
        if self.parent is not None and (found := self._found(self.parent)) is not None:
            tags["mlflow.parentRunId"] = found.info.run_id
        return self.client.create_run(self._experiment_id(), int(start["time"] * 1000), tags, name)

    def _new_events(self) -> Iterator[tuple[list[Event], int]]:
        """Give the whole lines after the recorded offset, some at a time, each with the offset behind them."""
        with self.path.open("rb") as file:
            file.seek(self.state["offset"])
            lines: list[bytes] = []
            for line in file:
                if line.endswith(b"\n"):
                    lines.append(line)
                if len(lines) == POINTS_PER_CALL // 8:
                    yield self._parsed(lines)
                    lines = []
            if lines:
                yield self._parsed(lines)

    def _parsed(self, lines: list[bytes]) -> tuple[list[Event], int]:
        return [parsed(each, self.path) for each in lines], self.state["offset"] + sum(map(len, lines))

    def _log_points(self, events: list[Event]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(metric_name(name), value, int(event["time"] * 1000), event["step"])
            for event in events
            if event["kind"] in ("metrics", "end", "evaluate")
            for name, value in event["values"].items()
        ]
        for start in range(0, len(points), POINTS_PER_CALL):
            self.client.log_batch(self.state["run_id"], metrics=points[start : start + POINTS_PER_CALL])

    def _take(self, event: Event) -> None:
        """Do what an event of its kind asks for; kinds without a meaning for MLflow pass."""
        getattr(self, f"_on_{event['kind']}", lambda event: None)(event)

    def _on_start(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, Param

        known = self.client.get_run(self.state["run_id"]).data.params  # of a sweep that another folder began
        params = [
            Param(metric_name(name), plain(str(value))[:6000])
            for name, value in flat(self.config).items()
            if metric_name(name) not in known
        ]
        facts = event["data"]
        source, profile = json.dumps({"sha256": facts["key"]}), json.dumps(facts["sizes"])
        data = Dataset(plain(facts["name"]), facts["key"][:32], "local", source, None, profile)
        with store_lock(self.uri):
            self.client.log_batch(self.state["run_id"], params=params)
            self.client.log_inputs(self.state["run_id"], [DatasetInput(data, [])])

    def _on_resume(self, event: Event) -> None:
        self.client.update_run(self.state["run_id"], status="RUNNING")
        self._save(killed=False)

    def _on_failed(self, event: Event) -> None:
        self.client.set_terminated(self.state["run_id"], STATUS["failed"], int(event["time"] * 1000))

    def _on_end(self, event: Event) -> None:
        for name in (OF_TRIAL if self.parent else ARTIFACTS) if self._is_here(event) else ():
            self._upload(self.folder / name)
        for frame in frames_of(self.folder) if not self.parent and self._is_here(event) else ():
            self.client.log_artifact(self.state["run_id"], str(frame), PROGRESS)
        done = "model" in self.state["artifacts"] or "no_model" in self.state
        if not done and not self.parent and self._is_here(event):
            self._try_model()
        self.client.set_terminated(self.state["run_id"], STATUS["end"], int(event["time"] * 1000))

    def _on_pruned(self, event: Event) -> None:
        self.client.set_terminated(self.state["run_id"], STATUS["pruned"], int(event["time"] * 1000))

    def _on_stopped(self, event: Event) -> None:
        self.client.set_terminated(self.state["run_id"], STATUS["stopped"], int(event["time"] * 1000))

    def _on_searched(self, event: Event) -> None:
        for file in event["files"]:
            self._upload(self.folder / Path(file).name)
        self.client.set_terminated(self.state["run_id"], STATUS["searched"], int(event["time"] * 1000))

    def _on_evaluate(self, event: Event) -> None:
        for name in EVALUATION if self._is_here(event) else ():
            self._upload(Path(event["folder"]) / name)

    def _is_here(self, event: Event) -> bool:
        """Whether the folder still holds what the event is about, and not another run's files."""
        weights = self.folder / WEIGHTS
        return weights.exists() and sha256_of(weights) == event["weights"]

    def _upload(self, file: Path) -> None:
        if file.exists():
            self.client.log_artifact(self.state["run_id"], str(file))
            self._save(artifacts=sorted({*self.state["artifacts"], file.name}))

    def _try_model(self) -> None:
        """Log the model; where that cannot be done, leave a line in the log, nothing in the store, and do not try again."""
        try:
            self._clear_models()
            self._log_model()
        except _model_errors() as error:
            if getattr(error, "error_code", BLAMING[0]) not in BLAMING:
                raise
            why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            print(redacted(f"{self.folder}: no model is logged: {why}"), file=sys.stderr, flush=True)
            self._clear_models()
            self._save(no_model=redacted(why))
        else:
            self._save(artifacts=sorted([*self.state["artifacts"], "model"]))

    def _clear_models(self) -> None:
        """Take away what attempts left that failed, or were killed on the way."""
        own = f"source_run_id = '{self.state['run_id']}'"
        for each in self.client.search_logged_models([self._experiment_id()], filter_string=own):
            if each.status != "READY":
                self.client.delete_logged_model(each.model_id)

    def kill(self) -> None:
        """Record in the store that the run's process is gone and its end never came."""
        last = max(event["time"] for event in read_events(self.path))
        self.client.set_terminated(self.state["run_id"], "KILLED", int(last * 1000))
        self._save(killed=True)

    def _log_model(self) -> None:
        """Log the model that takes stored values and gives answers, with signature, input example and our code.

        A traced graph and tensors, nothing pickled: a detector's answers are its raw boxes, since suppression is a loop.
        """
        import mlflow
        import torch

        from crucible.data.card import read_card
        from crucible.inference.saved_run import Predictor, input_dtype, load_run

        card = read_card(self.folder)
        if card.holds_symbols:
            raise ValueError(
                "a network that reads text has no trace: its weights are here, predict.py and sample.py ask it"
            )
        if card.table is not None:
            self._log_table_model(card)
            return
        predictor = Predictor(load_run(self.folder, torch.device("cpu")), settled=False).eval()
        example = torch.zeros(2, *card.stored_shape, dtype=input_dtype(card)).numpy()
        with torch.inference_mode():
            signature = mlflow.models.infer_signature(example, predictor(torch.from_numpy(example)).numpy())
        with mlflow.start_run(run_id=self.state["run_id"]):
            mlflow.pytorch.log_model(
                predictor, name="model", signature=signature, input_example=example, pip_requirements=_pinned(),
                code_paths=[str(Path(__file__).parents[1])], serialization_format="pt2",
            )  # fmt: skip

    def _log_table_model(self, card: "Card") -> None:
        """Log the model that takes the cells of a table as people have them: the run's files and the code that reads them."""
        import mlflow
        import pandas as pd
        import torch
        from mlflow.types.schema import AnyType, ColSpec, Schema

        from crucible.data.columns import columns_of, typical
        from crucible.inference.saved_run import Predictor, input_dtype, load_run

        columns = columns_of(card.table)
        inputs = list[Any](
            ColSpec(AnyType(), each.name) for each in columns
        )  # whole numbers where others stood, text, dates: the run reads them
        predictor = Predictor(load_run(self.folder, torch.device("cpu"))).eval()
        with torch.inference_mode():
            answers = predictor(torch.zeros(2, len(columns), dtype=input_dtype(card))).numpy()
        outputs = mlflow.models.infer_signature(answers, answers).outputs
        signature = mlflow.models.ModelSignature(Schema(inputs), outputs)
        with tempfile.TemporaryDirectory() as home:
            for name in (CONFIG, CARD, SUMMARY, WEIGHTS):
                shutil.copy(self.folder / name, home)
            with mlflow.start_run(run_id=self.state["run_id"]):
                mlflow.pyfunc.log_model(
                    python_model=str(Path(__file__).with_name("served_table.py")), name="model", signature=signature,
                    artifacts={"run": home}, input_example=pd.DataFrame([{each.name: typical(each) for each in columns}]), pip_requirements=_pinned(*OF_TABLES),
                    code_paths=[str(Path(__file__).parents[1])],
                )  # fmt: skip

    def _save(self, **changes: Any) -> None:
        self.state |= changes
        with lock(self.folder / ".mirror.lock"):
            everything = read_state(self.record) | {self.key: self.state}
            write_atomic(self.record, json.dumps(everything, indent=2).encode())


def _pinned(*further: str) -> list[str]:
    """Return what a served model needs, in the versions that are here."""
    return [f"{name}=={version(name).split('+')[0]}" for name in (*NEEDED, *further)]


def mirror(path: Path, uri: str, experiment: str | None, parent: int | None) -> bool:
    """Mirror one journal, a sweep's with those of its trials, following it while process `parent` lives.

    Return whether everything arrived.
    While the training lives, an unreachable store is tried again and again, ever more rarely; after it a few times.
    """
    folder = path.parent
    with alone(folder, uri):
        current, failures = Mirror(path, uri, experiment), 0
        current.claim()
        _wait_before_import(path, parent)
        while failures < MOST_FAILURES:
            alive = parent is not None and os.getppid() == parent
            try:
                ended = current.sync()
                _sync_trials(current, uri)
            except _store_errors() as error:
                why = redacted(f"{folder}: {type(error).__name__}: {error}")
                print(why, file=sys.stderr, flush=True)
                current, failures = Mirror(path, uri, experiment), failures + (not alive)
                time.sleep(min(30.0, POLL_SECONDS * 2 ** max(1, failures)))
                continue
            if ended or not alive:
                if parent is not None and not ended and is_left(path):
                    current.kill()
                return True
            time.sleep(POLL_SECONDS)
        return False


def _sync_trials(sweep: Mirror, uri: str) -> None:
    """Mirror what is new in the journals of a sweep's trials."""
    for path in sorted(sweep.folder.glob(TRIALS)):
        state = read_state(path.with_name("mirror.json")).get(redacted(uri))
        if next(read_events(path), None) and (state is None or state["offset"] < path.stat().st_size):
            with alone(path.parent, uri):
                Mirror(path, uri, sweep.experiment).sync()


def _wait_before_import(path: Path, parent: int | None) -> None:
    """Wait before importing MLflow, which takes seconds of a core: a short training is mirrored when it is over."""
    patience = time.monotonic() + QUIET_SECONDS
    while parent is not None and os.getppid() == parent and time.monotonic() < patience:
        if any(event["kind"] in STATUS for event in read_events(path)):
            break
        time.sleep(POLL_SECONDS)


def _store_errors() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def _model_errors() -> tuple[type[Exception], ...]:
    """Return what logging a model raises where trying again may not help: torch's tracer has many words for it."""
    from mlflow.exceptions import MlflowException

    return MlflowException, RuntimeError, ValueError, TypeError, AssertionError, KeyError, AttributeError, IndexError


def _make_store(uri: str) -> None:
    """Let a new sqlite store appear whole: one whose tables were half made when its maker was killed stays unusable."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    import mlflow

    draft = path.with_name(path.name + ".making")
    draft.unlink(missing_ok=True)
    mlflow.MlflowClient(f"sqlite:///{draft}").search_experiments()
    draft.replace(path)


def fetch(source: str, uri: str, home: Path) -> Path:
    """Bring a run's weights, configuration and card here and return their folder, `home`/RUN_ID.

    Args:
        source: runs:/ID, models:/NAME@ALIAS or models:/NAME/VERSION. uri: the store.

    Raises:
        LookupError: the run holds no weights, there is no such run or store, or what it sends is something else.
    """
    import mlflow

    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise LookupError(f"there is no store {uri}")
    return bring(source, mlflow.MlflowClient(uri), home)


def mark_killed(path: Path, uri: str) -> None:
    """Set a run to KILLED in the store, if it still is what `killed` found."""
    with alone(path.parent, uri):
        if is_left(path):
            Mirror(path, uri, None).kill()


def main() -> int:
    """Mirror the named run, then those of the project that are behind; exit 1 if something is left."""
    parser = argparse.ArgumentParser(prog="python -m crucible.tracking.mlflow", description=__doc__)
    parser.add_argument("folder", type=Path, help="a run folder")
    parser.add_argument("--uri", help="tracking store; default: sqlite:///mlflow.db in this folder")
    parser.add_argument("--experiment", help="default: the one the run declared")
    parser.add_argument("--follow", type=int, metavar="PID", help="follow the journal while this parent process lives")
    parser.add_argument("--root", type=Path, help="mirror the runs below it, too, that are behind")
    parser.add_argument(
        "--fetch", type=Path, metavar="DIR", help="the other way: bring a run, runs:/ID, into this folder"
    )
    args = parser.parse_args()
    if args.fetch:
        print(fetch(str(args.folder), args.uri or os.environ[STORE], args.fetch))
        return 0
    if not (args.folder / NAME).exists():
        parser.error(f"{args.folder} holds no {NAME}: it is no run folder")
    uri = args.uri or os.environ.get(STORE) or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # only what the training leaves
    done = mirror(args.folder / NAME, uri, args.experiment, args.follow)
    return 0 if done and (args.root is None or _mirror_others(args.root, uri)) else 1


def _mirror_others(root: Path, uri: str) -> bool:
    """Mirror the project's runs that are behind, and mark those that were killed; return whether everything arrived."""
    results = [_tolerated(mirror, path, uri, None, None) for path in behind(root, uri)]
    return all([*results, *(_tolerated(mark_killed, path, uri) for path in killed(root, uri))])


def _tolerated(work: Callable[..., bool | None], *args: Any) -> bool:
    """Do some work for another run; what is wrong with it is one line in the log, and holds no further run up."""
    try:
        return work(*args) is not False
    except (Refusal, StopIteration) as error:
        why: Exception = error
    except _store_errors() as error:
        why = error
    print(" ".join(redacted(f"{type(why).__name__}: {why}").split()), file=sys.stderr, flush=True)
    return False


if __name__ == "__main__":
    sys.stderr = RedactedStream(sys.stderr)  # all that loggers and tracebacks need of a stream
    sys.exit(main())
