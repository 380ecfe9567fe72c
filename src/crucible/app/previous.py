"""What has been tried on the same data: advice that would repeat a finished run, and gave nothing, is not given again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crucible.app.overrides import changed, overrides_of, without_defaults
from crucible.diagnosis.advice import Advice
from crucible.files import SUMMARY

MOST = 200  # runs that are looked at, the latest first
RUNS = ("outputs/*/*", "multirun/*/*/*")


def overrides_without_paths(cfg: Mapping[str, Any]) -> list[str]:
    """Return the overrides that say a configuration, without where its data lie."""
    return [word for word in overrides_of(dict(cfg)) if not word.startswith("data.path=")]


@dataclass(frozen=True)
class PreviousRuns:
    """The summaries of finished runs on the same data, the latest first, each with its folder and its overrides."""

    runs: tuple[dict[str, Any], ...] = ()

    def other_seeds(self, words: Sequence[str]) -> tuple[int, ...]:
        """Return the seeds with which this configuration was trained, its own apart."""
        own = _without_seed(words)
        return tuple(
            sorted({_seed(e["overrides"]) for e in self.runs if _without_seed(e["overrides"]) == own} - {_seed(words)})
        )

    def errors_on_dev(self, own: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Return folder and error on dev of each whose error is measured as in the summary `own`, the first first."""
        alike = [each for each in reversed(self.runs) if each.get("dev") and _measure(each) == _measure(own)]
        return [(each["folder"], each["dev"]["error"]) for each in alike]

    def left(self, advice: Sequence[Advice], own: Mapping[str, Any], words: Sequence[str]) -> list[Advice]:
        """Return the advice without what was trained already and was no better; where all of it was, what that means.

        Args:
            own: monitor, and scores on dev and train, of the run that is advised on. words: its overrides.
        """
        runs = {frozenset(each["overrides"]): each for each in reversed(self.runs)}
        kept = []
        for each in advice:
            new = frozenset(without_defaults(changed(list(words), each.overrides)))
            before = runs.get(new) if each.overrides else None
            if before is None:
                kept.append(each)
            elif _is_better(before, own):
                name = before["monitor"]["name"]
                done = f"It was tried: {name} {_score(before):.4f} in {before['folder']}."
                kept.append(replace(each, why=f"{each.why} {done}"))
        if kept or not advice:
            return kept or [Advice("There is no advice for this verdict: look at the worst mistakes in the report.")]
        return [
            Advice("All that is advised here was tried on these data and gave no more: look at the worst mistakes.")
        ]


def previous_runs(key: str, folder: Path) -> PreviousRuns:
    """Return what was trained by hand, or in a plain sweep, on the prepared data with this key; the run in `folder` apart."""
    files = [file for pattern in RUNS for file in Path().glob(f"{pattern}/{SUMMARY}")]
    files.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    others = (file for file in files[:MOST] if file.parent.resolve() != folder.resolve())
    found = [(file, _progress(summary := _json(file)), summary) for file in others]
    return PreviousRuns(
        tuple(
            {**summary, "overrides": p["overrides"], "folder": str(file.parent)}
            for file, p, summary in found
            if p.get("key") == key
        )
    )


def _progress(summary: Mapping[str, Any]) -> dict[str, Any]:
    diagnosis = summary.get("diagnosis")
    progress = diagnosis.get("progress") if isinstance(diagnosis, dict) else None
    return progress if isinstance(progress, dict) and "overrides" in progress else {}


def _measure(summary: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the name of the error, and what its mistakes cost."""
    costs = [word for word in _progress(summary).get("overrides", []) if word.startswith("task.mistake_costs")]
    return summary["diagnosis"]["error"]["name"], costs


def _json(file: Path) -> dict[str, Any]:
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _without_seed(words: Sequence[str]) -> frozenset[str]:
    return frozenset(word for word in words if not word.startswith("seed="))


def _seed(words: Sequence[str]) -> int:
    return next((int(word.removeprefix("seed=")) for word in words if word.startswith("seed=")), 0)


def _score(summary: Mapping[str, Any]) -> float:
    return float((summary["dev"] or summary["train"])[summary["monitor"]["name"]])


def _is_better(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    sign = 1 if one["monitor"]["goal"] == "maximize" else -1
    return sign * _score(one) > sign * _score(other)
