"""The mirror of the journal in MLflow: python -m crucible.tracking.mlflow RUN_FOLDER [--uri URI].

Whatever is killed, nothing is lost and nothing doubled: what was not recorded as sent is sent again, and MLflow takes a
point with the same name, step, time and value for the same point. Attempts are bounded; what was not mirrored is mirrored
at the next start.
"""

import argparse
import fcntl
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crucible.files import CARD, CONFIG, CURVES, EVALUATION, SUMMARY, WEIGHTS
from crucible.tracking.folder import sha256_of, write_atomic
from crucible.tracking.journal import NAME, PARENT, Event, read_events

ARTIFACTS = (CONFIG, CARD, CURVES, SUMMARY, WEIGHTS)
POINTS_PER_CALL = 500
POLL_SECONDS = 1.0
QUIET_SECONDS = 20.0
MOST_FAILURES = 4
STATUS = {"end": "FINISHED", "searched": "FINISHED", "failed": "FAILED", "pruned": "KILLED", "stopped": "KILLED"}
TRIALS = f"*/*/{NAME}"  # of a sweep, below its folder
NEEDED = ("torch", "numpy", "pydantic", "safetensors", "pyyaml")  # beside our own code, to serve a model elsewhere
FETCHED = (CONFIG, CARD, SUMMARY, WEIGHTS)
RUN_ID = re.compile("[0-9a-f]{32}")
OF_TRIAL = (CONFIG, CARD, CURVES, SUMMARY)  # the weights are had again by the promoting command


class Mirror:
    """One run folder in one tracking store.

    Args:
        path: the journal: journal.jsonl, or journal.<n>.jsonl of a run that stood in this folder before.
        uri: the store. experiment: MLflow's experiment name; None: the one that the run declared.
    """

    def __init__(self, path: Path, uri: str, experiment: str | None) -> None:
        self.path, self.folder, self.uri = path, path.parent, uri
        self.record = path.with_name(path.name.replace("journal", "mirror").replace(".jsonl", ".json"))
        start = next(read_events(path))
        self.journal, self.config = start["journal"], _yaml(start.get("config", "{}"))
        self.parent = start["tags"].get(PARENT)
        self.experiment = experiment or self.config.get("tracking", {}).get("experiment") or "crucible"
        self.state = _read_state(self.record).get(uri, {})
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
        with _one_at_a_time(self.uri):
            self._open_run()
        ended = False
        for events, offset in self._new_events():
            with _one_at_a_time(self.uri):
                self._log_points(events)
            for event in events:
                self._take(event)
                ended = event["kind"] in STATUS or (ended and event["kind"] != "resume")
            self._save(offset=offset)
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
        local = Path(self.uri.removeprefix("sqlite:///")).parent / "mlruns" / self.experiment
        home = local.absolute().as_uri() if self.uri.startswith("sqlite:") else None
        return self.client.create_experiment(self.experiment, artifact_location=home)

    def _create_run(self, start: Event) -> Any:
        tags = {**start["tags"], "mlflow.runName": start["name"], "crucible.journal": self.journal}
        if self.parent is not None and (found := self._found(self.parent)) is not None:
            tags["mlflow.parentRunId"] = found.info.run_id
        return self.client.create_run(self._experiment_id(), int(start["time"] * 1000), tags, start["name"])

    def _new_events(self) -> Iterator[tuple[list[Event], int]]:
        """Give the whole lines after the recorded offset, some at a time, each with the offset behind them."""
        with self.path.open("rb") as file:
            file.seek(self.state["offset"])
            lines: list[bytes] = []
            for line in file:
                if line.endswith(b"\n"):
                    lines.append(line)
                if len(lines) == POINTS_PER_CALL // 8:
                    yield [json.loads(each) for each in lines], self.state["offset"] + sum(map(len, lines))
                    lines = []
            if lines:
                yield [json.loads(each) for each in lines], self.state["offset"] + sum(map(len, lines))

    def _log_points(self, events: list[Event]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(name, value, int(event["time"] * 1000), event["step"])
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
        params = [Param(name, str(value)[:6000]) for name, value in _flat(self.config).items() if name not in known]
        facts = event["data"]
        source, profile = json.dumps({"sha256": facts["key"]}), json.dumps(facts["sizes"])
        data = Dataset(facts["name"], facts["key"][:32], "local", source, None, profile)
        with _one_at_a_time(self.uri):
            self.client.log_batch(self.state["run_id"], params=params)
            self.client.log_inputs(self.state["run_id"], [DatasetInput(data, [])])

    def _on_resume(self, event: Event) -> None:
        self.client.update_run(self.state["run_id"], status="RUNNING")

    def _on_failed(self, event: Event) -> None:
        self.client.set_terminated(self.state["run_id"], STATUS["failed"], int(event["time"] * 1000))

    def _on_end(self, event: Event) -> None:
        for name in (OF_TRIAL if self.parent else ARTIFACTS) if self._is_here(event) else ():
            self._upload(self.folder / name)
        if "model" not in self.state["artifacts"] and not self.parent and self._is_here(event):
            self._log_model()
            self._save(artifacts=sorted([*self.state["artifacts"], "model"]))
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

    def _log_model(self) -> None:
        """Log the model that takes stored values and gives probabilities, with signature, input example and our code."""
        import mlflow
        import torch

        from crucible.data.card import read_card
        from crucible.tasks.saved import Predictor, input_dtype, load_run

        predictor = Predictor(load_run(self.folder, torch.device("cpu"))).eval()
        card = read_card(self.folder)
        example = torch.zeros(2, *card.feature_shape, dtype=input_dtype(card)).numpy()
        with torch.inference_mode():
            signature = mlflow.models.infer_signature(example, predictor(torch.from_numpy(example)).numpy())
        pinned = [f"{name}=={version(name).split('+')[0]}" for name in NEEDED]
        with mlflow.start_run(run_id=self.state["run_id"]):
            mlflow.pytorch.log_model(
                predictor, name="model", signature=signature, input_example=example, pip_requirements=pinned,
                code_paths=[str(Path(__file__).parents[1])],
            )  # fmt: skip

    def _save(self, **changes: Any) -> None:
        self.state |= changes
        with _lock(self.folder / ".mirror.lock"):
            everything = _read_state(self.record) | {self.uri: self.state}
            write_atomic(self.record, json.dumps(everything, indent=2).encode())


def read_shape(folder: Path) -> list[int]:
    """Return the feature shape of the run's data."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))["feature_shape"]


def mirror(path: Path, uri: str, experiment: str | None, parent: int | None) -> bool:
    """Mirror one journal, a sweep's with those of its trials, following it while process `parent` lives.

    Return whether everything arrived.
    While the training lives, an unreachable store is tried again and again, ever more rarely; after it a few times.
    """
    folder = path.parent
    with _alone(folder, uri):
        current, failures = Mirror(path, uri, experiment), 0
        current.claim()
        _leave_in_peace(path, parent)
        while failures < MOST_FAILURES:
            alive = parent is not None and os.getppid() == parent
            try:
                ended = current.sync()
                _sync_trials(current, uri)
            except _store_errors() as error:
                print(f"{folder}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                current, failures = Mirror(path, uri, experiment), failures + (not alive)
                time.sleep(min(30.0, POLL_SECONDS * 2 ** max(1, failures)))
                continue
            if ended or not alive:
                return True
            time.sleep(POLL_SECONDS)
        return False


def _sync_trials(sweep: Mirror, uri: str) -> None:
    """Mirror what is new in the journals of a sweep's trials."""
    for path in sorted(sweep.folder.glob(TRIALS)):
        state = _read_state(path.with_name("mirror.json")).get(uri)
        if next(read_events(path), None) and (state is None or state["offset"] < path.stat().st_size):
            with _alone(path.parent, uri):
                Mirror(path, uri, sweep.experiment).sync()


@contextmanager
def _alone(folder: Path, uri: str) -> Iterator[None]:
    """Hold a run folder's mirror in this store."""
    with _lock(folder / f".mirror-{sha256(uri.encode()).hexdigest()[:8]}.lock"):
        yield


def _leave_in_peace(path: Path, parent: int | None) -> None:
    """Wait before importing MLflow, which takes seconds of a core: a short training is mirrored when it is over."""
    patience = time.monotonic() + QUIET_SECONDS
    while parent is not None and os.getppid() == parent and time.monotonic() < patience:
        if any(event["kind"] in STATUS for event in read_events(path)):
            break
        time.sleep(POLL_SECONDS)


def behind(root: Path, uri: str) -> list[Path]:
    """Return the journals under the project that belong in this store but are not there to their end, oldest first."""
    records = sorted(p for home in ("outputs", "multirun", "artifacts") for p in (root / home).rglob("mirror*.json"))
    pairs = [(p.with_name(p.name.replace("mirror", "journal") + "l"), _read_state(p).get(uri)) for p in records]
    return [path for path, state in pairs if state and path.exists() and state["offset"] < path.stat().st_size]


def _store_errors() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Take turns at a sqlite store: its tables are made by one process, and writers do not meet."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.with_name(path.name + ".lock")):
        yield


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


def _read_state(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _yaml(text: str) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(text)


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested keys: {"data": {"name": "digits"}} gives {"data.name": "digits"}."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def fetch(source: str, uri: str, home: Path) -> Path:
    """Bring a run's weights, configuration and card here and return their folder, `home`/RUN_ID.

    A store is not trusted: what it calls a run is one by its form, and what it sends is four plain files in a new folder.

    Args:
        source: runs:/ID, models:/NAME@ALIAS or models:/NAME/VERSION. uri: the store.

    Raises:
        LookupError: the run holds no weights, there is no such run or store, or what it sends is something else.
    """
    import mlflow

    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise LookupError(f"there is no store {uri}")
    client = mlflow.MlflowClient(uri)
    if not RUN_ID.fullmatch(run := _run_of(source, client)):
        raise LookupError(f"{run!r} is no id of a run: 32 digits from 0 to f")
    if (home / run).exists():
        return home / run
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".fetching-") as draft:
        if WEIGHTS not in {each.path for each in client.list_artifacts(run) if not each.is_dir}:
            raise LookupError(f"run {run} holds no {WEIGHTS}")
        for name in FETCHED:
            _download(client, run, name, Path(draft))
        Path(draft).rename(home / run)
        Path(draft).mkdir()  # for the context to take away
    return home / run


def _download(client: Any, run: str, name: str, draft: Path) -> None:
    """Fetch one file of a run.

    Raises:
        LookupError: what came is no plain file of this name in this folder, or stands beside it.
    """
    client.download_artifacts(run, name, str(draft))
    if strange := [
        each.name for each in draft.iterdir() if each.name not in FETCHED or each.is_symlink() or not each.is_file()
    ]:
        raise LookupError(f"for {name} of run {run} the store sent {strange[0]!r}, which is no such file")


def _run_of(source: str, client: Any) -> str:
    """Return the id of the run that a source names.

    Raises:
        LookupError: it names none.
    """
    kind, _, name = source.partition(":/")
    if kind == "runs":
        return name.split("/")[0]
    model, at, alias = name.partition("@")
    if at:
        return str(client.get_model_version_by_alias(model, alias).run_id)
    model, slash, number = name.rpartition("/")
    if not slash or not number.isdecimal():
        raise LookupError(f"{source} names no version of a model: models:/NAME/VERSION or models:/NAME@ALIAS")
    return str(client.get_model_version(model, number).run_id)


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
        print(fetch(str(args.folder), args.uri, args.fetch))
        return 0
    if not (args.folder / NAME).exists():
        parser.error(f"{args.folder} holds no {NAME}: it is no run folder")
    uri = args.uri or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # only what the training leaves
    done = mirror(args.folder / NAME, uri, args.experiment, args.follow)
    rest = behind(args.root, uri) if done and args.root else []
    return 0 if all([done, *(mirror(path, uri, None, None) for path in rest)]) else 1


if __name__ == "__main__":
    sys.exit(main())
