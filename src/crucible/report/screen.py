"""The last screen of a command: the result, the gap, the advice, where things are, what to type next."""

from typing import Any

from crucible.errors import as_called, printable

BESIDE = ("accuracy", "r2", "mean_iou", "map50_95")  # what is shown beside the monitored number
MOST_NAMED = 10  # of classes
CROWD = "of a crowd: the best are better, so more bias is avoidable"
JUDGED = ("train", "train_dev", "dev", "test")


def screen(summary: dict[str, Any], *, files: list[str], following: str, notes: tuple[str, ...] = ()) -> str:
    """Return the last screen for a train.json or a metrics.json."""
    diagnosis = summary["diagnosis"]
    first = diagnosis["advice"][0]
    lines = [
        ("result", result(summary)),
        *(
            ("", each)
            for each in (shown_boxes(summary), sampling(summary), baseline(summary), seen(diagnosis.get("seen", {})))
        ),
        ("score", suggested(summary)),
        *(("classes" if not i else "", each) for i, each in enumerate(classes(summary))),
        ("gap", gap(summary)),
        ("verdict", verdict(diagnosis)),
        ("curves", diagnosis["signs"]["curves"] or ""),
        *(("bound", each) for each in bounds(diagnosis)),
        *(("control", f"{each['change']} after epoch {each['epoch']}") for each in diagnosis["controls"]),
        ("advice", first["why"]),
        ("", first["command"] or ""),
        *(("note", note) for note in notes),
        ("files", "  ".join(files)),
        ("next", following),
    ]
    return lined(lines)


def lined(lines: list[tuple[str, str]]) -> str:
    """Return labelled lines, the empty ones left out; what would steer a terminal stands as an escape."""
    return "\n".join(f"{name:>8}  {printable(as_called(text))}" for name, text in lines if text)


def result(summary: dict[str, Any]) -> str:
    """Return the monitored number on each split that was judged, and beside it accuracy, or R2."""
    name, scores = summary["monitor"]["name"], judged(summary)
    shown = dict.fromkeys([name, *(other for other in BESIDE if other in scores["train"])])
    parts = [f"{key} " + ", ".join(f"{split} {each[key]:.4f}" for split, each in scores.items()) for key in shown]
    return f"{summary['data']}, {summary['model']}: {'; '.join(parts)}"


def classes(summary: dict[str, Any]) -> list[str]:
    """Return in sentences whose precision, recall and F1 are given where they are not those of all classes."""
    positive = summary.get("positive_class")
    found = [f"precision, recall and F1 are those of {positive!r}"] if positive is not None else []
    for split, scores in judged(summary).items():
        if absent := scores.get("without_examples"):
            names = ", ".join(absent[:MOST_NAMED]) + (
                f" and {len(absent) - MOST_NAMED} more" * (len(absent) > MOST_NAMED)
            )
            left_out = "" if positive is not None else ": precision, recall and F1 leave them out"
            found.append(f"{split} has no example of {names}{left_out}")
    return found


def suggested(summary: dict[str, Any]) -> str:
    """Return the score from which boxes are best shown, where that is another one than is set."""
    found = summary.get("suggested")
    if found is None or found["task.score"] == found["now"]["task.score"]:
        return ""
    now = f"from {found['now']['task.score']:g} {found['now']['f1']:.4f}"
    return f"boxes from {found['task.score']:g} have F1 {found['f1']:.4f} on dev, {now}: task.score={found['task.score']:g}"


def shown_boxes(summary: dict[str, Any]) -> str:
    """Return how good the boxes are that are shown, those from the task's score on; empty where there are none."""
    if "map50" not in summary["train"] or "precision" not in summary["train"]:
        return ""
    now = (summary.get("suggested") or {}).get("now", {}).get("task.score")
    parts = [
        f"{split} precision {each['precision']:.4f}, recall {each['recall']:.4f}, F1 {each['f1']:.4f}"
        for split, each in judged(summary).items()
        if split != "train"
    ]
    return f"boxes shown{f' (score {now:g})' if now is not None else ''}: {'; '.join(parts)}" if parts else ""


def gap(summary: dict[str, Any]) -> str:
    """Return the way from human level to the last split that was judged, and its parts; empty where there are none."""
    name, least, how = base(summary)
    unknown = how == "assumed" and not error_facts(summary)["is_rate"]  # an RMSE is not held against an assumed 0
    steps = [f"{name} {amount(least, summary)}{f' ({how})' if how else ''}"]
    steps += [f"{split} {amount(scores['error'], summary)}" for split, scores in judged(summary).items()]
    parts = [
        f"{name.replace('_', ' ')} {amount(value, summary)}"
        for name, value in summary["gap"].items()
        if value is not None and not (unknown and name == "avoidable_bias")
    ]
    if all(value is None for value in summary["gap"].values()):
        return ""
    return f"{error_name(summary)} " + " -> ".join(steps) + ": " + ", ".join(parts)


def base(summary: dict[str, Any]) -> tuple[str, float, str]:
    """Return what bias is avoidable down to: its name, the error, and where that is from: declared (nothing), computed, assumed."""
    if bayes := summary.get("bayes"):
        return "Bayes", bayes["error"], "computed" if bayes["computed"] else ""
    human = summary["human"]
    return "human", human["error"], "assumed" if human["assumed"] else CROWD if human.get("crowd") else ""


def verdict(diagnosis: dict[str, Any]) -> str:
    """Return the verdict, what it rests on, and what so many examples do not tell; being worse than trivial comes first."""
    reasons = [reason.replace("_", " ") for reason in diagnosis["reasons"]]
    worse = ["worse than the trivial baseline"] if "below baseline" in reasons else []
    named = [diagnosis["verdict"].replace("_", " "), *(each for each in reasons if each != "below baseline")]
    parts: dict[str, list[str]] = {}
    for part, why in diagnosis.get("unclear", {}).items():
        parts.setdefault(why, []).append(part.replace("_", " "))
    unclear = [f"{' and '.join(both)} {why}" for why, both in parts.items()]
    return " · ".join([*worse, *named, *unclear])


def sampling(summary: dict[str, Any]) -> str:
    """Return how far the monitored number may be off by the number of examples alone."""
    facts = {split: each for split, each in summary["diagnosis"].get("evidence", {}).items() if split != "train"}
    parts = [
        f"{split} {each['low']:.4f} to {each['high']:.4f} ({each['size']:,})"
        for split, each in facts.items()
        if each["low"] is not None
    ]
    return f"by the number of examples (95 %): {summary['monitor']['name']} on {', '.join(parts)}" if parts else ""


def baseline(summary: dict[str, Any]) -> str:
    """Return what an answer that never looks would reach."""
    facts = summary["diagnosis"].get("baseline")
    if not facts:
        return ""
    errors = ", ".join(f"{split} {amount(facts[split], summary)}" for split in JUDGED if split in facts)
    return f"trivial answer, {facts['name']}: {error_name(summary)} {errors}"


def bounds(diagnosis: dict[str, Any]) -> list[str]:
    """Return a sentence for each satisficing bound."""
    rows = diagnosis["satisficing"].items()
    return [
        f"{name} {row['bound']}: {_value(row['value'])}, {'met' if row['met'] else 'NOT met'}" for name, row in rows
    ]


def seen(facts: dict[str, Any]) -> str:
    """Return a sentence about examples that the weights have seen before they were judged on; empty where there are none."""
    if not facts:
        return ""
    if facts["policy"] == "unknown":
        return "whether the weights have seen examples of dev and test is unknown: a run that they come from has no record of it"
    counts = " and ".join(f"{n:,} of {facts['sizes'][split]:,} {split}" for split, n in facts["counts"].items())
    what = "left out" if facts["policy"] == "drop" else "kept: the numbers on them flatter"
    return f"{counts} examples had been seen by the runs that the weights come from; they are {what}"


def judged(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the scores of the splits that there are."""
    return {split: summary[split] for split in JUDGED if summary.get(split)}


def error_facts(summary: dict[str, Any]) -> dict[str, Any]:
    """Return what the gap is measured in: the `name` of the error, and whether it `is_rate`, a share of mistakes."""
    names = {"rmse": "RMSE", "map50": "1 - mAP50"}  # runs of before did not say it
    name = next((name for key, name in names.items() if key in summary["train"]), "error")
    return dict(summary["diagnosis"].get("error") or {"name": name, "is_rate": name != "RMSE"})


def error_name(summary: dict[str, Any]) -> str:
    """Return what the gap is measured in: the error rate, the RMSE, or what is left to a mean average precision of 1."""
    return str(error_facts(summary)["name"])


def amount(value: float, summary: dict[str, Any]) -> str:
    """Return an error rate as per cent, an RMSE in the target's unit."""
    return percent(value) if error_facts(summary)["is_rate"] else f"{value:.4g}"


def percent(share: float) -> str:
    """Return a share as per cent with one decimal."""
    return f"{100 * share:.1f} %"


def _value(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
