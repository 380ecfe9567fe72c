"""The storage of a search: one Optuna study a stage, behind one lock, patient with interruptions; the only `import optuna`.

A trial is counted once whatever is killed. What happened is written so that a reader of any moment can tell: a trial
that failed without a cause was killed from outside; it is tried again once, by Optuna's own record of a retry.
"""

import fcntl
import json
import logging
import math
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from hashlib import sha256
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from crucible.errors import Refusal, Stopped
from crucible.search.space import Choice, Parameter, Space, Value
from crucible.search.trials import State, Trial, TrialResult
from crucible.tracking.folder import holder

P = ParamSpec("P")
T = TypeVar("T")
BEAT_SECONDS, GRACE_SECONDS, PATIENCE_SECONDS = 10, 30, 60.0
SAMPLED = "sampled"  # the fact that every parameter has its value
KEPT = ("first", "planned", "seed")  # what a trial is given, and its retry with it
MAKING = 5_206_111  # the advisory lock under which tables are made
LOST = (SQLAlchemyError, StorageInternalError)
SCHEMES = ("sqlite:///", "postgresql://", "postgresql+psycopg://")
IMPATIENT = {  # PostgreSQL: what does not answer, or died with a lock, is noticed within half a minute
    "connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "options": "-c lock_timeout=30s -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
}  # fmt: skip
STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", module="optuna")
logging.getLogger("alembic").setLevel(logging.WARNING)
optuna.logging.set_verbosity(optuna.logging.ERROR)


def patient(method: Callable[Concatenate["Studies", P], T]) -> Callable[Concatenate["Studies", P], T]:
    """Try a call to the storage again while it cannot be reached, for a while.

    Raises:
        Stopped: it stayed so.
    """

    @wraps(method)
    def tried(self: "Studies", *args: P.args, **kwargs: P.kwargs) -> T:
        start, pause = time.monotonic(), 0.2
        while True:
            try:
                return method(self, *args, **kwargs)
            except LOST as error:
                self._lost = time.monotonic()
                if time.monotonic() - start > self.patience:
                    why = f"it cannot be reached: {_first_line(error)}"
                    raise Stopped(
                        f"hydra.sweeper.storage={shown(self.url)}",
                        why,
                        allowed="the same command, once it can: nothing is lost",
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, 5.0)

    return cast("Callable[Concatenate[Studies, P], T]", tried)


def load_importances() -> None:
    """Load what `Studies.importances` needs: with it optuna loads scikit-learn, which takes a second."""
    import optuna.importance  # noqa: F401


class Studies:
    """The studies of one search in one storage, as one process sees them.

    Args:
        url: sqlite:///FILE or postgresql://...; name: of the search; a stage's study is called name/stage.
        goal: maximize or minimize. seed: what is sampled derives from it, the stage and the place of the trial.
        folder: of this process, which holds its lock while it lives. patience: seconds to wait for a lost storage.

    Raises:
        Refusal: the storage cannot be reached, or is of another kind.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        goal: Literal["maximize", "minimize"],
        seed: int,
        folder: Path,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.url, self.name, self.patience = url, name, patience
        self._goal, self._seed = goal, seed
        self._storage = _reached(url)
        self._owner = {"host": machine(), "folder": str(folder.absolute())}
        self._held: dict[tuple[str, int], optuna.Trial] = {}
        self._known: dict[str, Study] = {}
        self._beat = time.monotonic()
        self._lost = self._looked = -math.inf

    @patient
    def recorded(self) -> dict[str, Any] | None:
        """Return what `begin` recorded; None where no search of this name has begun."""
        own = [name for name in optuna.get_all_study_names(self._storage) if name.rpartition("/")[0] == self.name]
        found = [self._study(name.rpartition("/")[2]).user_attrs.get("search") for name in own]
        return next((each for each in found if each is not None), None)

    @patient
    def begin(self, stage: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Record the search in the study of its first stage, unless another process did; return what is recorded."""
        with self._lock():
            study = self._made(stage)
            if "search" not in study.user_attrs:
                study.set_user_attr("search", dict(record))
            return study.user_attrs["search"]

    @patient
    def opened(self, stage: str) -> dict[str, Any] | None:
        """Return what `open` recorded of a stage; None where it has not begun."""
        if f"{self.name}/{stage}" not in optuna.get_all_study_names(self._storage):
            return None
        return self._study(stage).user_attrs.get("stage")

    @patient
    def open(self, stage: str, make: Callable[[], tuple[Space, int, Sequence[dict[str, Value]]]]) -> dict[str, Any]:
        """Begin a stage, unless it has begun: once, whoever comes first and whenever he is killed.

        Args:
            make: gives its space, the number of its trials, and points to try first.
        """
        with self._lock():
            study = self._made(stage)
            if "stage" not in study.user_attrs:
                space, trials, first = make()
                begun = {each.user_attrs.get("first") for each in study.get_trials(deepcopy=False)}
                for i, point in enumerate(first[:trials]):
                    if i not in begun:
                        study.enqueue_trial(point, user_attrs={"first": i})
                study.set_user_attr("stage", {"space": space.plain(), "trials": trials})
            return study.user_attrs["stage"]

    @patient
    def plan(self, stage: str, points: Sequence[tuple[str, dict[str, Value], Mapping[str, Any]]]) -> None:
        """Let a stage try exactly these (name, point, facts), each once."""
        with self._lock():
            study = self._made(stage)
            begun = {each.user_attrs.get("planned") for each in study.get_trials(deepcopy=False)}
            for name, point, facts in points:
                if name not in begun:
                    study.enqueue_trial(point, user_attrs={"planned": name, **facts})

    @patient
    def claim(self, stage: str, space: Space, sampler: str, trials: int | None) -> Trial | None:
        """Return a trial to run that nobody else runs, its parameters sampled; None where all are handed out.

        Args:
            trials: how many the stage has in all; None: only those that wait.
        """
        with self._lock():
            kept = [each for each in self._retry_killed(stage) if each.state != "killed"]
            study = self._study(stage)
            waiting = min(
                (each for each in kept if each.state == "waiting"), key=lambda each: each.origin, default=None
            )
            if waiting is None and (trials is None or len(kept) >= trials):
                return None
            place = len(kept) if waiting is None else sum(each.origin < waiting.origin for each in kept)
            if waiting is None and sampler == "quasi_random":
                study.enqueue_trial(self._sobol(stage, place, space))
                waiting = _read(stage, study.get_trials(deepcopy=False))[-1]
            trial = study.ask() if waiting is None else self._taken(stage, waiting.number)
            origin = trial.number if waiting is None else waiting.origin
            trial.study.sampler = _sampler(sampler, _derived(self._seed, stage, place))
            self._storage.record_heartbeat(self._id(study, trial.number))
            trial.set_user_attr("owner", {**self._owner, "released": False})
        values = space.sample(lambda each: _suggest(trial, each))
        trial.set_user_attr(SAMPLED, True)
        self._held[stage, trial.number] = trial
        return Trial(stage, trial.number, "running", values, None, {}, trial.user_attrs, origin)

    @patient
    def tell_facts(self, stage: str, number: int, facts: Mapping[str, Any]) -> None:
        """Record what a running trial tells of itself."""
        with suppress(UpdateFinishedTrialError):
            for name, value in facts.items():
                self._held[stage, number].set_user_attr(name, value)

    @patient
    def report(self, stage: str, number: int, epoch: int, value: float) -> None:
        """Record the monitored number of a running trial after an epoch."""
        with suppress(UpdateFinishedTrialError):
            self._held[stage, number].report(value, epoch)

    @patient
    def end(self, stage: str, number: int, outcome: TrialResult) -> None:
        """Record how a trial ended: its facts first, its state last."""
        trial = self._held[stage, number]
        with suppress(UpdateFinishedTrialError):  # another machine took this one for dead: what it tries again counts
            for name, value in outcome.facts.items():
                trial.set_user_attr(name, value)
            for name, value in outcome.violations.items():
                trial.set_constraint(name, value)
            state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}[
                outcome.kind
            ]
            value = outcome.value if outcome.kind == "complete" else None
            self._study(stage).tell(number, value, state=state, skip_if_finished=True)
        del self._held[stage, number]

    @patient
    def lose(self, stage: str, number: int) -> None:
        """Record that a trial was killed from outside; it waits to be tried again, or has failed if it was before."""
        with self._lock():
            self._held.pop((stage, number), None)
            self._fail(stage, number)
            self._retry_killed(stage)

    @patient
    def release(self) -> None:
        """Give back the trials of this process, unharmed: being given back is no kill."""
        with self._lock():
            for (stage, number), trial in list(self._held.items()):
                with suppress(UpdateFinishedTrialError):  # another machine took it for dead
                    trial.set_user_attr("owner", {**self._owner, "released": True})
                del self._held[stage, number]
                self._fail(stage, number)
                self._retry_killed(stage)

    @patient
    def trials(self, stage: str) -> list[Trial]:
        """Return the trials of a stage, oldest first; none where it has not begun."""
        if stage not in self._known and f"{self.name}/{stage}" not in optuna.get_all_study_names(self._storage):
            return []
        return _read(stage, self._study(stage).get_trials(deepcopy=False))

    @patient
    def beat(self) -> None:
        """Let other machines know that this process and its trials live."""
        if time.monotonic() - self._beat > BEAT_SECONDS:
            for stage, number in self._held:
                self._storage.record_heartbeat(self._id(self._study(stage), number))
            self._beat = time.monotonic()

    @patient
    def importances(self, stage: str) -> dict[str, float]:
        """Return how much of the spread of values each parameter explains (PED-ANOVA); empty where too few are complete."""
        study = self._study(stage)
        if len([each for each in study.get_trials(deepcopy=False) if each.state == TrialState.COMPLETE]) < 4:
            return {}
        try:
            return optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        except (ValueError, RuntimeError):  # no parameter that every trial has, or no spread
            return {}

    def _study(self, stage: str) -> Study:
        if stage not in self._known:
            self._known[stage] = optuna.load_study(study_name=f"{self.name}/{stage}", storage=self._storage)
        return self._known[stage]

    def _made(self, stage: str) -> Study:
        try:
            name = f"{self.name}/{stage}"
            self._known[stage] = optuna.create_study(storage=self._storage, study_name=name, direction=self._goal)
        except DuplicatedStudyError:
            pass
        return self._study(stage)

    def _retry_killed(self, stage: str) -> list[Trial]:
        """Fail the trials whose process died, and let those that were killed wait to be tried again, once; return all."""
        study = self._study(stage)
        self.beat()
        now = time.monotonic()
        if (
            now - self._looked > BEAT_SECONDS and now - self._lost > GRACE_SECONDS
        ):  # in an outage no heart could be heard
            self._looked = now
            fail_stale_trials(study)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for each in running:
            if (stage, each.number) not in self._held and self._is_dead(each):
                self._fail(stage, each.number)
        everyone = study.get_trials(deepcopy=False)
        found = _read(stage, everyone)
        killed = [each for each, plain in zip(everyone, found, strict=True) if _is_killed(each, plain)]
        for each in killed:
            study.add_trial(_again(each))
        return _read(stage, study.get_trials(deepcopy=False)) if killed else found

    def _fail(self, stage: str, number: int) -> None:
        self._study(stage).tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _is_dead(self, trial: FrozenTrial) -> bool:
        """Whether the process that runs a trial is known to be gone; of another machine's only the heartbeat tells."""
        owner = trial.user_attrs.get("owner")
        if owner is None:  # killed between asking and signing, both of which the lock covers
            return True
        if owner["host"] != self._owner["host"]:
            return False
        return owner["folder"] == self._owner["folder"] or holder(Path(owner["folder"])) is None

    def _taken(self, stage: str, number: int) -> optuna.Trial:
        """Start a waiting trial: as `ask` does, but this one."""
        study = optuna.load_study(
            study_name=f"{self.name}/{stage}", storage=self._storage
        )  # without what it had cached
        self._known[stage] = study
        identity = self._id(study, number)
        self._storage.set_trial_state_values(identity, state=TrialState.RUNNING)
        study.get_trials(deepcopy=False)  # the study's own cache must know it
        return optuna.Trial(study, identity)

    def _sobol(self, stage: str, place: int, space: Space) -> dict[str, Value]:
        """Return the point of Sobol's sequence at a place, the same whoever asks."""
        from scipy.stats import qmc

        sequence = qmc.Sobol(len(space.parameters), scramble=True, seed=_derived(self._seed, stage, 0))
        point = (sequence.fast_forward(place) if place else sequence).random(1)[0]
        shares = dict(zip(space.parameters, point, strict=True))
        return space.sample(lambda each: each.at(float(shares[each])))

    def _id(self, study: Study, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(
            self._storage.get_study_id_from_name(study.study_name), number
        )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the search for this process, on every machine; the lock ends with the process, however it ends."""
        if self.url.startswith("sqlite:"):
            with _path(self.url).with_suffix(".lock").open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
            return
        key = int.from_bytes(sha256(self.name.encode()).digest()[:8], signed=True)
        with self._storage.engine.connect() as connection:
            connection.exec_driver_sql(f"select pg_advisory_lock({key})")
            try:
                yield
            finally:
                connection.exec_driver_sql(f"select pg_advisory_unlock({key})")


def shown(url: str) -> str:
    """Return a storage URL without its password."""
    if url.startswith("sqlite:"):
        return url
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):  # whatever it is, a part of it may be a secret
        return f"{url.partition(':')[0]}:..."


def machine() -> str:
    """Return what tells this machine, or container, from any other: also from a clone of it."""
    boot, mounts = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/mnt")
    return "/".join([socket.gethostname(), boot.read_text().strip() if boot.exists() else "",
                     str(mounts.stat().st_ino) if mounts.exists() else ""])  # fmt: skip


def require_reachable(url: str) -> None:
    """Refuse a storage that cannot be reached, and leave nothing behind: a file that is not there yet can be made.

    Raises:
        Refusal: with the reason.
    """
    _require_kind(url)
    if url.startswith("sqlite:") and not _path(url).exists():
        home = next(each for each in _path(url).absolute().parents if each.exists())
        if not (home.is_dir() and os.access(home, os.W_OK)):
            raise _away(url, f"no file can be made in {home}")
        return
    _reached(url)


def _require_kind(url: str) -> None:
    if not url.startswith(SCHEMES) or url in ("sqlite:///", "sqlite:///:memory:"):
        raise Refusal(
            f"hydra.sweeper.storage={shown(url)}", "is no storage that a search can be kept in",
            allowed="sqlite:///FILE, postgresql://USER@HOST/DATABASE",
            example="hydra.sweeper.storage=sqlite:///outputs/studies/mine.db",
        )  # fmt: skip


def _away(url: str, why: str, needs: str = "") -> Refusal:
    where = f"hydra.sweeper.storage={shown(url)}"
    return Refusal(where, f"it cannot be reached: {why}", allowed="a database that answers", example=needs)


def _reached(url: str) -> RDBStorage:
    _require_kind(url)
    is_file = url.startswith("sqlite:")
    new = [each for each in (_path(url), _path(url).with_suffix(".lock")) if is_file and not each.exists()]
    try:
        if is_file:
            _path(url).parent.mkdir(parents=True, exist_ok=True)
        engine = {} if is_file else {"connect_args": IMPATIENT}
        with _making(url):
            _require_ours(url, engine)
            storage = RDBStorage(url, engine, heartbeat_interval=BEAT_SECONDS, grace_period=GRACE_SECONDS)
    except (*LOST, OSError, ImportError, RuntimeError, Refusal) as error:
        for each in new:
            each.unlink(missing_ok=True)
        if isinstance(error, Refusal):
            raise
        raise _away(url, _first_line(error), "pip install 'psycopg[binary]'" * isinstance(error, ImportError)) from None
    if is_file:
        event.listen(storage.engine, "connect", _make_light)
        storage.engine.dispose()
    return storage


def _require_ours(url: str, engine: dict[str, Any]) -> None:
    """Refuse a database that holds something else: its tables are left alone."""
    if url.startswith("sqlite:") and not _path(url).exists():
        return
    tables = inspect(create_engine(url, **engine)).get_table_names()
    if tables and "studies" not in tables:
        where = f"hydra.sweeper.storage={shown(url)}"
        raise Refusal(where, f"it is the database of something else: it holds {', '.join(sorted(tables)[:4])}",
                      allowed="a database of its own", example="hydra.sweeper.storage=null")  # fmt: skip


def _make_light(connection: Any, record: Any) -> None:
    """Let sqlite append to a log instead of waiting for the disk at each step: a kill loses nothing, a power cut the last."""
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=normal")


@contextmanager
def _making(url: str) -> Iterator[None]:
    """Let one process at a time make the tables of a storage."""
    if url.startswith("sqlite:"):
        with _path(url).with_suffix(".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    with create_engine(url, connect_args=IMPATIENT).connect() as connection:  # the lock ends with the connection
        connection.exec_driver_sql(f"select pg_advisory_lock({MAKING})")
        yield
        connection.exec_driver_sql(f"select pg_advisory_unlock({MAKING})")


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error.__cause__ or error).strip().split("\n")[0]


def _read(stage: str, everyone: Sequence[FrozenTrial]) -> list[Trial]:
    again = {number for each in everyone for number in _history(each)}
    return [_plain(stage, each, everyone, each.number in again) for each in everyone]


def _plain(stage: str, trial: FrozenTrial, everyone: Sequence[FrozenTrial], tried_again: bool) -> Trial:
    state: State = "killed" if tried_again else STATES[trial.state]
    facts = trial.user_attrs
    if state == "failed" and "cause" not in facts:
        kills = sum(_was_killed(everyone[number]) for number in (*_history(trial), trial.number))
        state = "waiting" if kills < 2 else "failed"  # killed once: whoever comes next lets it be tried again
        facts = {**facts, "cause": "killed twice", "why": "its process was killed from outside, twice"}
    origin = next(iter(_history(trial)), trial.number)
    value = trial.value if trial.state == TrialState.COMPLETE else None
    return Trial(stage, trial.number, state, dict(trial.params), value, dict(trial.intermediate_values), facts, origin)


def _is_killed(trial: FrozenTrial, plain: Trial) -> bool:
    """Whether a trial was killed and nobody has let it be tried again yet."""
    return trial.state == TrialState.FAIL and plain.state == "waiting"


def _history(trial: FrozenTrial) -> list[int]:
    """Return the earlier attempts of a trial, as Optuna records them."""
    return trial.system_attrs.get("retry_history", [])


def _again(trial: FrozenTrial) -> FrozenTrial:
    """Return a waiting trial of the same point, in Optuna's own record of a retry, with nothing of what the first one reported.

    A point that was not yet sampled to its end is sampled anew, the same.
    """
    whole = SAMPLED in trial.user_attrs
    history = [*_history(trial), trial.number]
    record: dict[str, Any] = {"failed_trial": history[0], "retry_history": history}
    record |= {"fixed_params": trial.system_attrs["fixed_params"]} if "fixed_params" in trial.system_attrs else {}
    kept = {key: trial.user_attrs[key] for key in KEPT if key in trial.user_attrs}
    return optuna.create_trial(
        state=TrialState.WAITING,
        params=trial.params if whole else {},
        distributions=trial.distributions if whole else {},
        user_attrs=kept,
        system_attrs=record,
    )


def _was_killed(trial: FrozenTrial) -> bool:
    """Whether a trial that failed without a cause had begun, and was not given back."""
    return not trial.user_attrs.get("owner", {"released": True})["released"]


def _suggest(trial: optuna.Trial, each: Parameter) -> Value:
    if isinstance(each, Choice):
        return trial.suggest_categorical(each.name, each.options)
    if each.integer:
        return trial.suggest_int(each.name, int(each.low), int(each.high), log=each.log)
    return trial.suggest_float(each.name, each.low, each.high, log=each.log)


def _sampler(kind: str, seed: int) -> optuna.samplers.BaseSampler:
    """Return a sampler for one trial, seeded by its place: it draws the same whoever drew the others, and after a kill."""
    if kind == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=5, multivariate=True, group=True, constant_liar=True
        )
    if kind == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=5)
    return optuna.samplers.RandomSampler(seed=seed)


def _derived(seed: int, stage: str, place: int) -> int:
    return int.from_bytes(sha256(json.dumps([seed, stage, place]).encode()).digest()[:4])
