"""The report of an evaluation: the verdict first, then what it rests on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crucible.labels.kind import Mistake
from crucible.plots.charts import Bar, Bars, Lines, Matrix, Part, Series, Table, thinned
from crucible.plots.pixels import thumbnail
from crucible.report.screen import (
    amount,
    base,
    baseline,
    bounds,
    classes,
    error_facts,
    error_name,
    gap,
    judged,
    result,
    sampling,
    seen,
    suggested,
    verdict,
)
from crucible.report.web import embedded, rendered

SMALL = 48  # pixels of a picture whose pixels are shown as squares
HIDDEN = ("source", "arrays", "examples", "sha256")  # of the card: hashes of single files, which nobody reads
HEADINGS = (
    ("verdict", "Verdict"), ("numbers", "Numbers"), ("curves", "Curves"), ("progress", "Progress"), ("classes", "Classes and thresholds"), ("errors", "Costly mistakes"),
    ("mistakes", "Mistakes"), ("flow", "Layers"), ("spreads", "Weights"), ("configuration", "Configuration"), ("card", "Data card"),
)  # fmt: skip
EPOCHS = "epoch"
MOST_LAYERS = 6  # whose weights are drawn
FEWEST_RUNS = 3  # that show a progress
MOST_LINES = 10  # of a chart of many
Rows = Sequence[Mapping[str, float]]


def page(
    summary: dict[str, Any], card: dict[str, Any], config: str, looks: str, facts: Sequence[str], rows: Rows, best_epoch: int,
    tolerance: float, splits: Mapping[str, Sequence[Part]], gallery: Any, gallery_split: str, pictures: Mapping[str, Path],
    further: Mapping[str, Sequence[Part]],
) -> str:  # fmt: skip
    """Return the page.

    Args:
        summary: a metrics.json. card: a card.json. config: the configuration's text. looks: how often test has been looked at.
        facts: of the run: date, command, commit, ... rows: of curves.csv. tolerance: of a part of the gap. splits: charts of the
            predictions on each. gallery: mistakes of `gallery_split`, see `gallery_of`. pictures: heading -> file. further: charts by
            their place in the page.
    """
    diagnosis = summary["diagnosis"]
    parts: dict[str, Sequence[Part]] = {
        "gap": gap_bars(summary, tolerance),
        "numbers": [_numbers(summary)],
        "curves": curves(rows, best_epoch, summary["train"], diagnosis["signs"]["curves"]),
        "errors": _ceiling(summary),
        "flow": flow(rows),
        **splits,
        **further,
    }
    split, last = list(judged(summary).items())[-1]
    more = {
        "classes": any(splits.values()),
        "mistakes": bool(gallery),
        "verdict": True,
        "configuration": True,
        "card": True,
    }
    return rendered(
        "report.html",
        parts,
        gallery=gallery,
        sections=_sections({name for name, own in {**parts, **more}.items() if own}, pictures),
        title=f"{summary['data']}, {summary['model']}: {error_name(summary)} {amount(last['error'], summary)} on {split}",
        facts=facts,
        verdict=verdict(diagnosis),
        result=result(summary),
        gap=gap(summary),
        curves=diagnosis["signs"]["curves"],
        advice=diagnosis["advice"],
        notes=_notes(summary),
        looks=f"{looks}." if looks else "",
        parameters=f"{summary['parameters']:,}",
        latency=summary["latency_ms_per_example"],
        splits=[split for split, own in splits.items() if own],
        gallery_split=gallery_split,
        pictures=[(heading, embedded(path)) for heading, path in pictures.items()],
        config=config,
        card=json.dumps({key: value for key, value in card.items() if key not in HIDDEN}, indent=1, ensure_ascii=False),
    )


def _sections(there: set[str], pictures: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Return name and heading of each section that there is, in order; the pictures before the last two."""
    sections = [(name, heading) for name, heading in HEADINGS if name in there]
    sections[-2:-2] = [(f"picture{i + 1}", heading.partition(":")[0]) for i, heading in enumerate(pictures)]
    return sections


def progress(tried: Sequence[tuple[str, float]], summary: Mapping[str, Any]) -> list[Part]:
    """Return the error on dev of each run on these data, the least so far, and what humans and anybody can reach; of few runs nothing.

    The picture of 000, part 7, section 4: steps become smaller near the human level, and end at the Bayes error.

    Args:
        tried: folder and error of each run, the first first.
    """
    if len(tried) < FEWEST_RUNS:
        return []
    x, errors = list(range(1, len(tried) + 1)), [error for _, error in tried]
    least = [min(errors[: i + 1]) for i in range(len(errors))]
    lines = [
        Series("each run", x, errors, labels=[folder for folder, _ in tried], colour=0),
        Series("the least so far", x, least, colour=1),
    ]
    bayes, human = summary.get("bayes"), summary["human"]
    told = not human["assumed"] and (bayes is None or human["error"] != bayes["error"])
    levels = {"Bayes error": bayes, "human": human if told else None}
    lines += [
        Series(name, [1, len(tried)], [level["error"]] * 2, dashed=True) for name, level in levels.items() if level
    ]
    return [Lines(f"{error_name(dict(summary))} on dev, run by run", lines, x="run on these data",
                  note="Dev has chosen among these runs, so that the least of many flatters. Progress slows near the human level, and nothing is below the Bayes error.")]  # fmt: skip


def _ceiling(summary: dict[str, Any]) -> list[Part]:
    """Return what each kind of mistake costs, on the split that was analysed; nothing where none was told."""
    split = next(split for split in ("dev", "train_dev", "train") if summary.get(split))
    columns = ["label", "predicted", "count", "share of the error, %", f"{error_name(summary)} if fixed"]
    rows = [[row["label"], row["predicted"], row["count"], 100 * row["share"], amount(row["error_if_mended"], summary)]
            for row in summary["diagnosis"]["error_analysis"]]  # fmt: skip
    return (
        [Table(f"On {split}", columns, rows, note="If one kind were fixed, the error would be as in the last column.")]
        if rows
        else []
    )


def _notes(summary: dict[str, Any]) -> list[str]:
    """Return what else was found, a sentence each."""
    diagnosis, signs = summary["diagnosis"], summary["diagnosis"]["signs"]
    about = (sampling(summary), baseline(summary), seen(diagnosis.get("seen", {})), suggested(summary))
    notes = [*filter(None, about), *classes(summary), *bounds(diagnosis), *signs["flow"]]
    notes += [
        f"{100 * share:.0f} % of the units of {layer} fire for no train example"
        for layer, share in signs["dead_units"].items()
        if share > 0
    ]
    notes += [f"control after epoch {each['epoch']}: {each['change']}" for each in diagnosis["controls"]]
    return notes + [
        f"{pair}: {'different distributions' if each['differs'] else 'no sign of different distributions'} "
        f"(p = {each['features']:.3f} features, {each['labels']:.3f} labels)"
        for pair, each in signs["shifts"].items()
    ]


def gap_bars(summary: dict[str, Any], tolerance: float) -> list[Part]:
    """Return the error of the best humans and of each split, and what each step adds; nothing where bias has no meaning."""
    if all(value is None for value in summary["gap"].values()):
        return []
    name, least, how = base(summary)
    told = how != "assumed" or error_facts(summary)["is_rate"]  # an RMSE is not held against an assumed 0
    steps = [(name + (f" ({how})" if how else ""), least)] if told else []
    steps += [(split, scores["error"]) for split, scores in judged(summary).items()]
    bars, before = [], None
    for name, error in steps:
        growth = "" if before is None else f" ({'+' if error >= before else '-'}{amount(abs(error - before), summary)})"
        high = before is not None and error - before > tolerance
        bars.append(Bar(name, error, f"{amount(error, summary)}{growth}", high=high, plain=before is None))
        before = error
    return [
        Bars(
            f"The gap: {error_name(summary)}",
            bars,
            note=f"Red: a step of more than {amount(tolerance, summary)}, the tolerance.",
        )
    ]


def _numbers(summary: dict[str, Any]) -> Table:
    """Return every number that all splits have."""
    splits = list(judged(summary).items())
    names = [n for n, v in splits[0][1].items() if isinstance(v, float) and all(n in scores for _, scores in splits)]
    return Table(
        "Every split", ["split", *names], [[split, *(scores[name] for name in names)] for split, scores in splits]
    )


def curves(rows: Rows, best_epoch: int, train: Mapping[str, Any], meaning: str | None) -> list[Part]:
    """Return a chart for each number of train and dev over the epochs, the loss first, and one for each family of numbers, as of classes.

    The loss of train is that of every epoch; its other numbers are dashed, from the epochs in which some examples were looked at.
    """
    if not rows:
        return []
    kept = [rows[i] for i in thinned(len(rows))]
    names = list(
        dict.fromkeys(
            name.partition("/")[2]
            for row in rows
            for name in row
            if name.startswith(("train/", "dev/")) and "padding" not in name
        )
    )
    first, last = rows[0][EPOCHS], rows[-1][EPOCHS]
    band = (
        {"from": last - (last - first) / 3, "to": last, "text": "the last third, which the curves are judged by"}
        if meaning
        else None
    )
    alone = [name for name in names if "/" not in name or name.startswith("loss/")]
    charts = [
        _both(rows, kept, name, best_epoch, train, band if name == "loss" else None)
        for name in sorted(alone, key=lambda name: (name != "loss", "/" in name))
    ]
    families = dict.fromkeys(name.partition("/")[0] for name in names if name not in alone)
    return [
        *charts,
        *(
            _family(kept, family, [name for name in names if name.startswith(f"{family}/")], best_epoch)
            for family in families
        ),
    ]


def _both(
    rows: Rows, kept: Rows, name: str, best_epoch: int, train: Mapping[str, Any], band: Mapping[str, Any] | None
) -> Lines:
    """Return one number of train and dev over the epochs.

    Args:
        rows: all of them. kept: those that a line is drawn through.
    """
    measured, note, own = [row for row in rows if f"train/{name}" in row], "", list[Series]()
    whole = name.partition("/")[0] == "loss"  # the mean over all steps
    if whole and len(measured) == len(rows):
        own.append(_series(kept, f"train/{name}", "train", 0))
    elif measured:
        own.append(replace(_series(measured, f"train/{name}", "train, sampled", 0), dashed=True))
        note = "Sampled: some examples of train, no more than dev has, in some epochs."
    if not whole and isinstance(train.get(name), float):
        own.append(Series("train, chosen epoch", [best_epoch], [train[name]], colour=0))
    if f"dev/{name}" in rows[-1]:
        own.append(_series(kept, f"dev/{name}", "dev", 1))
    return Lines(name, own, x="epoch", note=note, marker=_chosen(best_epoch), band=band)


def _family(rows: Rows, family: str, names: Sequence[str], best_epoch: int) -> Lines:
    """Return numbers of one kind on dev, as those of each class, over the epochs; of many the first."""
    there = [name for name in names if f"dev/{name}" in rows[-1]]
    few = f"The first {MOST_LINES} of {len(there)}." if len(there) > MOST_LINES else ""
    drawn = [_series(rows, f"dev/{name}", name.partition("/")[2], None) for name in there[:MOST_LINES]]
    return Lines(f"{family.replace('_', ' ')}, on dev", drawn, x="epoch", marker=_chosen(best_epoch), note=few)


def _series(rows: Rows, name: str, called: str, colour: int | None) -> Series:
    return Series(called, [row[EPOCHS] for row in rows], [row.get(name) for row in rows], colour=colour)


def _chosen(epoch: int) -> Mapping[str, Any]:
    return {"x": epoch, "text": f"chosen: epoch {epoch:g}"}


def flow(rows: Rows) -> list[Part]:
    """Return gradient and activation of each layer, and the gradient at each lag, at the first, middle and last epoch."""
    if not rows:
        return []
    shown, found = [rows[i] for i in sorted({0, len(rows) // 2, len(rows) - 1})], list[Part]()
    for kind, what in (("gradient", "root mean square of the gradient"), ("activation", "deviation of the activation")):
        layers = [name.partition("/")[2] for name in rows[-1] if name.startswith(f"{kind}/")]
        series = [Series(f"epoch {row[EPOCHS]:.0f}", list(range(1, len(layers) + 1)), [row.get(f"{kind}/{layer}") for layer in layers], labels=layers)
                  for row in shown]  # fmt: skip
        if layers:
            found.append(
                Lines(
                    what[0].upper() + what[1:],
                    series,
                    x="layer, from the input",
                    log_y=True,
                    note="Point at a line to read the layer's name.",
                )
            )
    lags = sorted(int(name.rpartition("/")[2]) for name in rows[0] if name.startswith("gradient_at_lag/"))
    if len(lags) > 1:
        series = [
            Series(
                f"epoch {row[EPOCHS]:.0f}", [lag + 1 for lag in lags], [row[f"gradient_at_lag/{lag}"] for lag in lags]
            )
            for row in shown
        ]
        found.append(
            Lines(
                "How far back it learns",
                series,
                x="steps between, and 1",
                log_x=True,
                log_y=True,
                note="The gradient of the last output against the steps between.",
            )
        )
    return found


def spreads(found: Mapping[str, Any]) -> list[Part]:
    """Return how the weights of each layer and what each activation gives are spread at the start and at the end; of many layers some.

    Args:
        found: by moment, see crucible.training.histograms.
    """
    if not {"start", "end"} <= set(found):
        return []
    parts: list[Part] = []
    for kind, what in (("weights", "Weights"), ("activations", "Activations")):
        names = [name for name in found["start"].get(kind, {}) if name in found["end"].get(kind, {})]
        shown = [names[i] for i in thinned(len(names), MOST_LAYERS)]
        parts += [
            _histogram(f"{what} of {name}", [(moment, found[moment][kind][name]) for moment in ("start", "end")])
            for name in shown
        ]
    return [*parts, *_spread_table(found)] if parts else []


def _histogram(title: str, facts: Sequence[tuple[str, Mapping[str, Any]]]) -> Lines:
    series = []
    for moment, own in facts:
        width = (own["high"] - own["low"]) / len(own["shares"])
        middles = [own["low"] + (i + 0.5) * width for i in range(len(own["shares"]))]
        series.append(Series(moment, middles, [share / width for share in own["shares"]]))
    return Lines(title, series, x="value", note="Share of the values for each unit of the axis.")


def _spread_table(found: Mapping[str, Any]) -> list[Part]:
    """Return norm, deviation and share near zero of each layer's weights, and mean and deviation of what each activation gives."""
    weights, active = (
        {moment: found[moment].get(kind, {}) for moment in ("start", "end")} for kind in ("weights", "activations")
    )
    columns = [
        "",
        "norm, start",
        "norm, end",
        "deviation, start",
        "deviation, end",
        "near zero, start, %",
        "near zero, end, %",
    ]
    rows = [[name, *(own[name][key] * factor for key, factor in (("norm", 1), ("deviation", 1), ("near_zero", 100)) for own in weights.values())]
            for name in weights["start"] if name in weights["end"]]  # fmt: skip
    given = [
        [name, *(own[name][key] for key in ("mean", "deviation") for own in active.values())]
        for name in active["start"]
        if name in active["end"]
    ]
    tables = [
        Table(
            "Weights, layer by layer",
            columns,
            rows,
            note="The norm is the root of the sum of squares; near zero: below 0.001.",
        )
    ]
    if given:
        tables.append(Table("What the activation functions give", ["", "mean, start", "mean, end", "deviation, start", "deviation, end"], given,
                            note="For 64 examples of train: where all deviations are small, or all values stand at the ends, little is learned (notes 002, 6.3)."))  # fmt: skip
    return list(tables)


def matrix(counts: np.ndarray[Any, Any], names: Sequence[str], split: str, *, opens: bool) -> Matrix:
    """Return a confusion matrix."""
    more = " Click a wrong cell to see its examples." if opens else ""
    return Matrix("Confusion matrix", names, counts.astype(int).tolist(), opens,
                  note=f"On {split}: a row for each label, a column for what was predicted; the stronger the colour, the larger the share of the row.{more}")  # fmt: skip


def gallery_of(
    mistakes: Sequence[Mistake], names: Sequence[str], images: np.ndarray[Any, Any] | None, score: float | None
) -> Any:
    """Return mistakes as the page shows them.

    Args:
        names: of their files. images: (n, C, H, W); None where examples are none. score: from which boxes are shown; None where there
            are no boxes.
    """
    items = []
    for i, (each, name) in enumerate(zip(mistakes, names, strict=True)):
        item: dict[str, Any] = {
            "title": each.title.replace("\n", ", "),
            "name": name,
            "label": each.label,
            "predicted": each.predicted,
            "score": each.score,
        }
        if images is not None:
            h, w = images[i].shape[1:]
            item |= {"picture": thumbnail(images[i]), "small": max(h, w) <= SMALL,
                "stroke": max(h, w) / 120, "width": w, "height": h,
                     "marks": [*_marks(each.truth, truth=True), *_marks(each.unsure or each.found, truth=False)]}  # fmt: skip
        items.append(item)
    drawn = (
        " Green: what is there; orange: what was found, from the score on that the slider says."
        if score is not None
        else ""
    )
    more = (
        "The mistakes that cost most, and some of each kind."
        if any(each.label for each in mistakes)
        else "The worst, first."
    )
    return {"items": items, "score": score, "note": more + drawn} if items else None


def _marks(found: Any, *, truth: bool) -> list[dict[str, Any]]:
    """Return boxes, or points, as they are drawn."""
    if isinstance(found, Mapping):
        return [
            {"point": list(point), "truth": truth, "score": None, "text": "there" if truth else "found"}
            for point in found.get("points", ())
        ]
    return [{"box": list(each["box"]), "truth": truth, "score": each.get("score"), "text": f"{each['class']}" + ("" if truth else f" {each['score']:.2f}")}
            for each in found]  # fmt: skip
