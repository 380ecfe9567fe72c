"""What python src/train.py -m sweep=... does: the configuration's side of a search, and what a trial is."""

import json
import os
import re
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from socket import gethostname
from typing import Any
from uuid import uuid4

from crucible.app.cluster import connected
from crucible.app.compatibility import fits
from crucible.app.compose import Job, compose, plain
from crucible.app.identity import config_text, identity, record
from crucible.app.prepared import CACHE, Accept, prepared
from crucible.app.pretrained import resolve_source
from crucible.app.project import home
from crucible.app.quoting import flags, quoted
from crucible.app.search.engines import engine_of, threads_each, workers
from crucible.app.search.results import leave, machine_of, opening, screen, short
from crucible.app.search.space import corners, space_of, split, swept_groups
from crucible.app.search.spec import Base, SearchSpec
from crucible.data.card import Card
from crucible.diagnosis.bounds import violation
from crucible.errors import Pruned, Refusal, Stopped
from crucible.files import CARD, SUMMARY
from crucible.instantiate import build
from crucible.report.board import board
from crucible.schema import check
from crucible.search.engine import Engine, Tell
from crucible.search.local import Waiting, begun_early
from crucible.search.plan import Settings, allotted, require_shares
from crucible.search.search import Listen, Plan, Search, SearchState
from crucible.search.space import Space
from crucible.search.stages import Studies, load_importances, machine, require_reachable
from crucible.search.trials import Trial, TrialRequest, TrialResult
from crucible.tracking.folder import locked, on_disk_at_the_end
from crucible.tracking.journal import NAME, PARENT, Journal, read_events

LOG = "trial.log"
LOADED = ("crucible.app.search.run", "crucible.app.commands.train")  # what a trial needs


def sweep(hydra: Any, settings: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Search, or go on with a search; leave best.yaml and the pictures, and show the last screen.

    Args:
        hydra: Hydra's own node. settings: the keys of hydra.sweeper. arguments: the overrides of the command line.
    """
    made: list[Path] = []
    named = any(each.startswith("hydra.sweep.dir=") for each in hydra.overrides.hydra)
    with ExitStack() as stack:
        try:
            words = [each for each in arguments if not each.startswith("sweep=")]
            asked = _settings(settings)
            stack.enter_context(connected(asked.engine))
            spec, waiting = _search_spec(asked, words, made, stack)
            folder, studies = _opened(spec, Path(hydra.sweep.dir).absolute(), named, made, stack)
        except Refusal:
            _unmake(made)
            raise
        own = {"parts": spec.parts, "host": machine(), "folder": str(folder), "journal": uuid4().hex}
        record = studies.begin(next(iter(spec.plan.stages)), own)
        spec = replace(spec, base=replace(spec.base, parent=record["journal"]))
        print(opening(spec, studies, record["parts"]["code"] != spec.parts["code"]), flush=True)
        standing = _kept(spec, engine_of(asked, spec, waiting), studies, folder, list(arguments))
    print(screen(spec, standing, folder))


def _kept(spec: SearchSpec, engine: Engine, studies: Studies, folder: Path, arguments: list[str]) -> SearchState:
    """Search with a journal and a mirror; whatever ends it, the journal says so."""
    journal = _journal(spec, folder, arguments)
    search = Search(spec.plan, studies, partial(trial, spec.base), folder, _listen(spec, journal), engine)
    try:
        standing = _searched(spec, search, folder)
        files = leave(spec, studies, standing, folder)
        journal.append("searched", epoch=0, step=standing.done, files=files)
    except (Stopped, KeyboardInterrupt) as end:
        by_hand = isinstance(end, KeyboardInterrupt)
        if by_hand:  # what was found so far
            leave(spec, studies, search.standing(), folder)
        journal.append("stopped" if by_hand else "failed", epoch=0, step=search.standing().done, why=str(end))
        raise
    finally:
        journal.close()
        build("tracking", spec.cfg["tracking"], folder, home()).refresh()
    return standing


def _searched(spec: SearchSpec, search: Search, folder: Path) -> SearchState:
    if search.is_over():
        return search.standing()
    build("tracking", spec.cfg["tracking"], folder, home()).start()
    with search:
        threading.Thread(target=_load_pictures, daemon=True).start()
        standing = search.run()
    print(
        f"{standing.workers[1]} worker(s) had a trial {standing.busy:.0%} of the time from their first to their last",
        flush=True,
    )
    return standing


def _load_pictures() -> None:
    """Load what the page at the end needs, while trials run."""
    load_importances()
    import crucible.report.search  # noqa: F401  (it loads matplotlib)


def _listen(spec: SearchSpec, journal: Journal) -> Listen:
    """Return what a search tells of its trials: to the view, and those that end to the journal."""
    view = board(spec.base.monitor)

    def listen(standing: SearchState, ended: Trial | None) -> None:
        view(standing, ended)
        if ended is not None and standing.best is not None and standing.best.value is not None:
            values = {"search/best": standing.best.value, "search/epochs": float(_epochs(standing))}
            values |= {"search/value": ended.value} if ended.value is not None else {}
            journal.append("metrics", epoch=0, step=standing.done, values=values)

    return listen


def _epochs(standing: SearchState) -> int:
    return sum(each.epochs for own in standing.trials.values() for each in own)


def trial(base: Base, job: TrialRequest, tell: Tell) -> TrialResult:
    """Train one trial in a worker: composed, checked and run like a training by hand, what it prints in its folder."""
    from crucible.app.commands import train

    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    words = [*job.overrides, f"trainer.total_epochs={job.epochs}", *([] if job.seed is None else [f"seed={job.seed}"])]
    with _output_kept(folder):
        cfg = base.composed(words)
        tags = {PARENT: base.parent, "optuna.study": job.study, "optuna.trial": str(job.number)}

        def report(epoch: int, total: int, values: dict[str, float]) -> None:
            tell(epoch, values[f"dev/{base.monitor}"])

        job_of_trial = Job(
            cfg, folder, [*base.overrides, *words], tags=tags, tell=report, mirrored=False, can_go_on=False
        )
        with on_disk_at_the_end(folder / NAME, folder / CARD):
            train.main(job_of_trial)
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    rows = summary["diagnosis"]["satisficing"]
    return TrialResult(
        "complete",
        summary["dev"][base.monitor],
        {name: violation(row["bound"], row["value"]) for name, row in rows.items()},
        {
            "epochs": summary["epochs"],
            "threads": summary["threads"],
            "machine": machine_of(cfg, summary["threads"]),
            "host": gethostname(),
        },
    )


@contextmanager
def _output_kept(folder: Path) -> Iterator[None]:
    """Keep what a trial prints; where it does not come to its end, its journal tells why."""
    with (folder / LOG).open("w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            yield
        except Exception as error:
            kind = "pruned" if isinstance(error, Pruned) else "failed"
            if kind == "failed":
                traceback.print_exc()
            events = list(read_events(folder / NAME))
            if events and not any(each["kind"] in ("end", "failed") for each in events):
                journal = Journal(folder)
                journal.append(kind, epoch=events[-1].get("epoch", 0), step=events[-1].get("step", 0), why=str(error))
                journal.close()
            raise


def _settings(settings: Mapping[str, Any]) -> Settings:
    check(Settings, settings, "hydra.sweeper")
    asked = Settings.model_validate(dict(settings))
    require_shares(asked.stages)
    allotted(asked.stages, asked.n_trials, {})
    if asked.storage is not None:
        require_reachable(asked.storage)
    return asked


def _search_spec(
    asked: Settings, words: list[str], made: list[Path], stack: ExitStack
) -> tuple[SearchSpec, list[Waiting]]:
    """Check everything that can be refused before a trial, while processes begin; prepared folders that are new go to `made`."""
    args = flags(sys.argv[1:])
    fixed, swept = split(words)
    firsts = [f"{group}={options[0]}" for group, options in swept_groups(swept).items()]
    composed = compose(args, [*fixed, *firsts])
    space = space_of(fixed, swept, composed.hydra.runtime.choices, asked.space if asked.default_space else {})
    jobs = workers(asked, plain(composed))
    waiting = stack.enter_context(begun_early(jobs if asked.engine == "local" else 0, *LOADED))
    if (threads := threads_each(asked, jobs)) is not None and plain(composed)["trainer"]["threads"] == "auto":
        fixed.append(f"trainer.threads={threads}")
    resolved = resolve_source(Job(plain(composed), Path(), [])).cfg
    for group, key in (("transfer", "source"), ("task", "features")):
        if (named := resolved[group].get(key)) is not None:
            fixed.append(quoted(f"{group}.{key}={named}"))  # what `latest` means now
    base = Base(args, tuple(fixed), "", "")
    card, pinned = _admitted(base, space, made)
    cfg = base.composed(firsts)
    task = build("task", cfg["task"], card)
    parts = _parts(asked, cfg, space, card)
    kind = cfg["model"]["_target_"].rpartition(".")[2].lower()
    name = asked.study_name or re.sub(r"[^\w.=+-]+", "-", f"{card.name}-{kind}-{_hash(parts)[:8]}")
    plan = Plan(
        space, asked.stages, asked.confirm, asked.n_trials, jobs, cfg["trainer"]["total_epochs"], task.goal, cfg["seed"],
        asked.max_failure_rate,
    )  # fmt: skip
    storage = asked.storage or f"sqlite:///outputs/studies/{name}.db"
    base = Base(args, (*fixed, *pinned), task.monitor, "")
    return SearchSpec(base, cfg, plan, card, name, storage, parts, _read(base.composed(firsts))), waiting


def _read(cfg: Mapping[str, Any]) -> dict[str, Path]:
    """Return the folders that every trial reads, by the key that names them."""
    named = {"prepared": cfg["prepared"], "transfer.source": cfg["transfer"].get("source")}
    return {key: Path(path) for key, path in named.items() if path is not None and Path(path).is_dir()}


def _admitted(base: Base, space: Space, made: list[Path]) -> tuple[Card, list[str]]:
    """Check the configuration and the data at the corners of the space; return the card, and where the data are."""
    seen: dict[str, tuple[Path, Card]] = {}
    for cfg in [base.composed(space.overrides(point)) for point in corners(space)]:
        accept, before = _with_dev(fits(cfg)), set(CACHE.glob("*"))
        key = json.dumps([cfg["data"], cfg["task"]["_target_"]], sort_keys=True)
        if key not in seen:
            seen[key] = prepared(Job(cfg, Path(), []), accept)
            made += [seen[key][0]] if seen[key][0].parent == CACHE and seen[key][0] not in before else []
        else:
            accept(seen[key][1])
    folder, card = next(iter(seen.values()))
    return card, [quoted(f"prepared={folder}")] if len(seen) == 1 else []


def _with_dev(accept: Accept) -> Accept:
    def both(card: Card) -> None:
        accept(card)
        if "dev" not in card.splits:
            raise Refusal("data.split.dev", "a search chooses on dev, and there is none", example="data.split.dev=0.2")

    return both


def _parts(asked: Settings, cfg: dict[str, Any], space: Space, card: Card) -> dict[str, Any]:
    who = identity({**cfg, "trainer": {**cfg["trainer"], "threads": "auto"}}, card)
    stages = {name: stage.model_dump() for name, stage in asked.stages.items()}
    return dict(json.loads(json.dumps({**vars(who), "space": space.plain(), "stages": stages})))


def _hash(parts: Mapping[str, Any]) -> str:
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _studies(spec: SearchSpec, folder: Path) -> Studies:
    plan = spec.plan
    return Studies(spec.storage, spec.name, goal=plan.goal, seed=plan.seed, folder=folder)


def _opened(spec: SearchSpec, new: Path, named: bool, made: list[Path], stack: ExitStack) -> tuple[Path, Studies]:
    """Return the locked folder of the search, and its studies; what is new goes to `made`."""
    if spec.storage.startswith("sqlite:") and not (file := Path(spec.storage.removeprefix("sqlite:///"))).exists():
        made += [file, *(file.with_suffix(ending) for ending in (".lock", ".db-wal", ".db-shm"))]
    studies = _studies(spec, new)
    folder = _home(spec, studies, new, named)
    folder = stack.enter_context(locked(folder, fresh=not named and not folder.exists()))
    _require_own(folder, studies)
    return folder, _studies(spec, folder)


def _require_own(folder: Path, studies: Studies) -> None:
    """Refuse a folder that holds another search; under DVC, which makes a stage's outputs anew, empty it.

    Raises:
        Refusal: the trials of that search would be written over.
    """
    start, record = next(read_events(folder / NAME), None), studies.recorded()
    if start is None or (record is not None and start["journal"] == record["journal"]):
        return
    if "DVC_STAGE" not in os.environ:
        raise Refusal(
            f"hydra.sweep.dir={short(folder)}", "another search is in this folder", allowed="a folder of its own",
            example=f"hydra.sweep.dir={short(folder)}-2",
        )  # fmt: skip
    for stage in {path.parent.parent for path in folder.glob(f"*/*/{LOG}")}:
        shutil.rmtree(stage)
    for file in folder.glob("*.json*"):  # the journal and what was mirrored of it
        file.unlink()


def _unmake(made: list[Path]) -> None:
    """Take away what a refused search has made, and the folders that it made for it."""
    for path in made:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        for parent in list(path.parents)[:2]:
            if (
                parent.name in ("prepared", "artifacts", "studies", "outputs")
                and parent.is_dir()
                and not any(parent.iterdir())
            ):
                parent.rmdir()


def _home(spec: SearchSpec, studies: Studies, new: Path, named: bool) -> Path:
    """Return the folder of the search: a new one, or the one in which it began on this machine.

    Raises:
        Refusal: another search has this name.
    """
    record = studies.recorded()
    if record is None:
        return new
    if differing := _differing(record["parts"], spec.parts):
        raise Refusal(
            f"hydra.sweeper.study_name={spec.name}",
            f"this study was begun with another {differing}",
            allowed="what it was begun with; another hydra.sweeper.study_name; or null: a name for each search",
            example=f"hydra.sweeper.study_name={spec.name}-2",
        )
    began = Path(record["folder"])
    return began if not named and record["host"] == machine() and began.exists() else new


def _differing(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the first difference in what makes two searches the same, in words; code may differ."""
    if was["space"] != now["space"]:
        before, after = (
            [each.grammar() for each in Space.from_plain(parts["space"]).parameters] for parts in (was, now)
        )
        gone, come = [each for each in before if each not in after], [each for each in after if each not in before]
        return f"space: {', '.join(gone) or 'nothing'}, now {', '.join(come) or 'nothing'}"
    names = {"config": "configuration", "data": "data", "stages": "stages"}
    return next((text for key, text in names.items() if was[key] != now[key]), "")


def _journal(spec: SearchSpec, folder: Path, arguments: list[str]) -> Journal:
    """Open the journal of the sweep, the parent of its trials'."""
    begun = next(read_events(folder / NAME), None)
    journal = Journal(folder)
    if begun is not None:
        journal.append("resume", epoch=0, step=0)
        return journal
    card = spec.card
    data = {"name": card.name, "key": card.key, "sizes": {split: card.size(split) for split in card.splits}}
    tags = record(Job(spec.cfg, folder, arguments), identity(spec.cfg, card))["tags"]
    space = {each.name: each.grammar().partition("=")[2] for each in spec.plan.space.parameters}
    config = {**spec.cfg, "space": space}
    journal.append("start", journal=spec.base.parent, name=f"sweep {spec.name}", tags={**tags, "optuna.study": spec.name},
                   config=config_text(config), data=data)  # fmt: skip
    return journal
