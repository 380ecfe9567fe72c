"""A run's files from a store that is not trusted: what it calls a run, and what it sends, is looked at first."""

import re
import tempfile
from pathlib import Path
from typing import Any

from crucible.files import CARD, CONFIG, SEEN, SUMMARY, WEIGHTS

FETCHED = (CONFIG, CARD, SUMMARY, WEIGHTS, SEEN)
RUN_ID = re.compile("[0-9a-f]{32}")


def bring(source: str, client: Any, home: Path) -> Path:
    """Return the folder, `home`/RUN_ID, that holds the plain files of the run, and nothing else that the store sends.

    Args:
        source: runs:/ID, models:/NAME@ALIAS or models:/NAME/VERSION. client: of MLflow.

    Raises:
        LookupError: the run holds no weights, its id is none, or what comes is something else; nothing stays.
    """
    if not RUN_ID.fullmatch(run := _run_of(source, client)):
        raise LookupError(f"{run!r} is no id of a run: 32 digits from 0 to f")
    if (home / run).exists():
        return home / run
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".fetching-") as draft:
        there = {each.path for each in client.list_artifacts(run) if not each.is_dir}
        if WEIGHTS not in there:
            raise LookupError(f"run {run} holds no {WEIGHTS}")
        for name in FETCHED if SEEN in there else FETCHED[:-1]:  # a run of before has no record of what it has seen
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
