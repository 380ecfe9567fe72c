"""What has been tried on the same data: advice that would repeat a finished run, and gave nothing, is not given again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crucible.diagnosis.advice import Advice
from crucible.files import CARD, SUMMARY
from overrides import changed, overrides_of

MOST = 200  # runs that are looked at, the latest first


def words_of(cfg: Mapping[str, Any]) -> list[str]:
    """Return the overrides that say a configuration, without where its data lie."""
    return [word for word in overrides_of(dict(cfg)) if not word.startswith("data.path=")]


def other_seeds(cfg: Mapping[str, Any], key: str, folder: Path) -> tuple[int, ...]:
    """Return the seeds with which this configuration was trained on these data, this run's own apart."""
    own = _without_seed(words_of(cfg))
    seeds = {_seed(each["overrides"]) for each in _runs(key, folder) if _without_seed(each["overrides"]) == own}
    return tuple(sorted(seeds - {_seed(words_of(cfg))}))


def untried(
    advice: Sequence[Advice], own: Mapping[str, Any], cfg: Mapping[str, Any], key: str, folder: Path
) -> list[Advice]:
    """Return the advice without what was trained already and was no better; where nothing is left, what that means.

    Args:
        own: monitor, and scores on dev and train, of the run that is advised on.
    """
    runs, words = {frozenset(each["overrides"]): each for each in _runs(key, folder)}, words_of(cfg)
    kept = []
    for each in advice:
        before = runs.get(frozenset(changed(words, each.overrides))) if each.overrides else None
        if before is None:
            kept.append(each)
        elif _is_better(before, own):
            name = before["monitor"]["name"]
            kept.append(
                replace(each, why=f"{each.why} It was tried: {name} {_score(before):.4f} in {before['folder']}.")
            )
    return kept or [
        Advice("All that is advised here was tried on these data and gave no more: look at the worst mistakes.")
    ]


def _runs(key: str, folder: Path) -> list[dict[str, Any]]:
    """Return the summaries of finished runs by hand on the same prepared data, the latest first."""
    files = sorted(Path("outputs").glob(f"*/*/{SUMMARY}"), key=lambda file: file.stat().st_mtime, reverse=True)
    found = []
    for file in files[:MOST]:
        if file.parent.resolve() == folder.resolve() or not (file.parent / CARD).exists():
            continue
        told = _json(file)
        words = told.get("diagnosis", {}).get("progress", {}).get("overrides")
        if words is not None and _json(file.parent / CARD).get("key") == key:
            found.append({**told, "overrides": words, "folder": str(file.parent)})
    return found


def _json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _without_seed(words: Sequence[str]) -> frozenset[str]:
    return frozenset(word for word in words if not word.startswith("seed="))


def _seed(words: Sequence[str]) -> int:
    return next((int(word.removeprefix("seed=")) for word in words if word.startswith("seed=")), 0)


def _score(told: Mapping[str, Any]) -> float:
    return float((told["dev"] or told["train"])[told["monitor"]["name"]])


def _is_better(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    sign = 1 if one["monitor"]["goal"] == "maximize" else -1
    return sign * _score(one) > sign * _score(other)
