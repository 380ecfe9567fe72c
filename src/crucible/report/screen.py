"""The last screen of a command: the result, the gap, the advice, where things are, what to type next."""

from typing import Any


def screen(summary: dict[str, Any], *, files: list[str], following: str, notes: tuple[str, ...] = ()) -> str:
    """Return the last screen for a train.json or a metrics.json."""
    diagnosis = summary["diagnosis"]
    first = diagnosis["advice"][0]
    lines = [
        ("result", result(summary)),
        ("gap", gap(summary)),
        ("verdict", " · ".join([diagnosis["verdict"].replace("_", " "), *diagnosis["reasons"]])),
        ("advice", first["why"]),
        ("", first["command"] or ""),
        *(("note", note) for note in notes),
        ("files", "  ".join(files)),
        ("next", following),
    ]
    return "\n".join(f"{name:>8}  {text}" for name, text in lines if text)


def result(summary: dict[str, Any]) -> str:
    """Return the monitored number on each split that was judged."""
    name = summary["monitor"]["name"]
    parts = [f"{s} {summary[s][name]:.4f}" for s in ("train", "dev", "test") if summary.get(s)]
    accuracy = [f"{s} {summary[s]['accuracy']:.4f}" for s in ("train", "dev", "test") if summary.get(s)]
    return f"{summary['data']}, {summary['model']}: {name} " + ", ".join(parts) + "; accuracy " + ", ".join(accuracy)


def gap(summary: dict[str, Any]) -> str:
    """Return the way from human level to the last split that was judged, and its parts."""
    human = summary["human"]
    steps = [f"human {percent(human['error'])}{' (assumed)' if human['assumed'] else ''}"]
    steps += [f"{s} {percent(summary[s]['error'])}" for s in ("train", "dev", "test") if summary.get(s)]
    parts = [
        f"{name.replace('_', ' ')} {percent(value)}" for name, value in summary["gap"].items() if value is not None
    ]
    return "error " + " -> ".join(steps) + ": " + ", ".join(parts)


def percent(share: float) -> str:
    """Return a share as per cent with one decimal."""
    return f"{100 * share:.1f} %"
