"""The command that trains on somebody's data: the model and the settings that suit them, each with its reason."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crucible.app.look.choices import Choice, source_of, still_open
from crucible.app.look.findings import Findings, findings
from crucible.app.look.recognition import Recognised, recognised
from crucible.app.quoting import key_of
from crucible.data.readers.source import Source
from crucible.models.resnet import LARGE, SMALLEST_FAST

SIDE, SMALL_SIDE = 64, 96  # what large pictures are brought to; pictures up to which they stay as they are
BOX_PIXELS, BOX_SIDES = (
    12,
    (96, 128, 160, 192, 224, 256, 320, 416),
)  # of a box in the middle; sides of pictures with boxes
MANY, EXAMPLES = 10_000, 600_000  # pictures from which a step takes more; examples that are trained on in all
EPOCHS = (12, 50)
FEW_PICTURES = 1000
FINE_TUNE = (
    "few pictures: weights that others have trained on many, a file in timm's names, help most here; fine-tune them: "
    "transfer=from_file transfer.source=resnet18.pth model.depth=18 model.width=64 transfer.freeze=none optimizer.lr=0.001"
)
ANCHORS = 3  # of task=detection, where nobody says


@dataclass(frozen=True)
class Looked:
    """What was found, and what is suggested.

    Attributes:
        recognised: what reads the path. source: as it was read. findings: what is in it. choices: in the order of the command.
        profiles: of a table, what each column holds.
    """

    recognised: Recognised
    source: Source
    findings: Findings
    choices: list[Choice]
    profiles: list[Any]

    @property
    def words(self) -> list[str]:
        """The words of the command."""
        return [word for choice in self.choices for word in choice.words]


def looked_at(path: Path, given: Sequence[str] = ()) -> Looked:
    """Return what a path holds and the command that trains on it.

    Args:
        given: words that a person has chosen; they stay, and what they decide is not suggested.

    Raises:
        Refusal: nothing reads it, or its reader refuses it.
    """
    found = recognised(path)
    read = Choice((f"data={found.choice}", f"data.path={found.path}"), found.why)
    first, profiles, numbers = [read], list[Any](), False
    if found.choice == "table":
        from crucible.app.look.tables import label_choice  # polars: only where a table is read

        label, numbers, profiles = label_choice(found.path, given)
        first.append(label)
    source = source_of(
        [
            *(word for choice in first for word in choice.words),
            *(word for word in given if key_of(word).startswith("data.")),
        ]
    )
    facts = findings(source, classes=found.choice not in ("text", "style_pair", "keypoints", "conll") and not numbers)
    if facts.copies_across:
        first.append(Choice(("data.duplicates=drop",), "copies stand in two splits: they leave train"))
    if found.choice == "image_folder" and facts.size < FEW_PICTURES and "transfer" not in map(key_of, given):
        small = facts.pictures is not None and facts.pictures.smallest < LARGE
        facts.odd.append(FINE_TUNE + (f" data.image_size=[{LARGE},{LARGE}]" if small else ""))
    suited = SUITED.get(found.choice, _of_arrays)(facts, numbers)
    first = [
        own for each in first if (own := still_open(each, [word for word in given if key_of(word) != "data"])).words
    ]
    return Looked(
        found, source, facts, [*first, *(own for each in suited if (own := still_open(each, given)).words)], profiles
    )


def as_typed(words: Sequence[str]) -> str:
    """Return words as they are typed in a shell."""
    return " ".join(map(shlex.quote, words))


def columns_of_table(found: Looked) -> list[tuple[str, ...]]:
    """Return what the columns of a table hold, a row each, and first the names of these; nothing where there is no table."""
    if not found.profiles:
        return []
    rows = [(each.name, each.column.kind if each.column is not None else f"left out: {each.why}", f"{each.empty:,} empty" if each.empty else "",
             f"about {each.distinct:,} values") for each in found.profiles]  # fmt: skip
    return [("column", "kind", "empty cells", "different values"), *rows]


def _of_pictures(facts: Findings, numbers: bool) -> list[Choice]:
    """Return what suits pictures with a class each: a residual network, more pictures by shifts, a rate that falls to 0."""
    return [*_brought_to_one(facts, SIDE), *_network(facts)]


def _brought_to_one(facts: Findings, side: int) -> list[Choice]:
    pictures, choices = facts.pictures, list[Choice]()
    assert pictures is not None
    h, w = pictures.median
    if len(pictures.sizes) > 1 or max(h, w) > SMALL_SIDE:
        scale = min(1.0, side / max(h, w))
        size = (_eighths(scale * h), _eighths(scale * w)) if pictures.one_shape else (_eighths(scale * max(h, w)),) * 2
        why = "sizes differ" if len(pictures.sizes) > 1 else "large pictures cost much"
        choices.append(
            Choice((f"data.image_size=[{size[0]},{size[1]}]",), f"{why}: {size[0]} x {size[1]} to begin with")
        )
    if len(pictures.channels) > 1:
        choices.append(Choice(("data.channels=3",), "grey and colour together: all in colour"))
    return choices


def _eighths(side: float) -> int:
    """Return the multiple of 8 that is nearest, at least 16."""
    return max(16, 8 * round(side / 8))


def _network(facts: Findings) -> list[Choice]:
    pictures = facts.pictures
    assert pictures is not None
    colour = pictures.channels.most_common(1)[0][0] == 3
    choices = [
        Choice(
            ("model=resnet", *(("model.depth=9", "model.width=16") if pictures.smallest >= SMALLEST_FAST else ())),
            "a residual network learns pictures of any kind; ResNet-9 in little time",
        ),
        Choice(("augment=light",), "shifted pictures are more pictures"),
    ]
    if colour:
        choices.append(
            Choice(
                ("data.flip_keeps_label=true",),
                "and mirrored ones, since these are in colour: take it away where left and right or writing matter",
            )
        )
    choices += [
        Choice(
            ("optimizer=adamw", "optimizer.lr=0.01", "optimizer.weight_decay=0.1"),
            "large steps, and weights that stay small",
        ),
        Choice(
            ("schedule=cosine", "schedule.warmup_epochs=2"),
            "a rate that rises first, and falls to 0, ends in a better place",
        ),
    ]
    if facts.size >= MANY:
        epochs = max(EPOCHS[0], min(EPOCHS[1], round(EXAMPLES / facts.size)))
        choices.append(
            Choice(
                ("trainer.batch_size=128", f"trainer.total_epochs={epochs}"),
                f"{facts.size:,} pictures: fewer rounds are enough",
            )
        )
    return choices


def _of_boxes(facts: Findings, numbers: bool) -> list[Choice]:
    """Return what suits pictures with boxes: YOLO on pictures in which a box in the middle is a dozen pixels wide."""
    wanted = BOX_PIXELS / max(facts.small_box or 0.1, 0.01)
    side = next((each for each in BOX_SIDES if each >= wanted), BOX_SIDES[-1])
    few = (
        [Choice((f"task.anchors={facts.box_shapes}",), "boxes of so few shapes")]
        if 0 < facts.box_shapes < ANCHORS
        else []
    )
    return [
        Choice(
            (f"data.image_size=[{side},{side}]", "data.channels=3"),
            f"half of the boxes then are {BOX_PIXELS} pixels wide or more",
        ),
        Choice(
            ("task=detection", "model=yolo", "model.settings={depth: 18, width: 32}", "model.stride=8"),
            "boxes are to be found",
        ),
        Choice(("augment=light", "data.flip_keeps_label=true"), "shifted and mirrored pictures are more pictures"),
        Choice(
            ("schedule=cosine", "schedule.warmup_epochs=3", "optimizer.lr=0.002", "trainer.batch_size=8"),
            "as in docs/detection.md",
        ),
        *few,
    ]


def _of_points(facts: Findings, numbers: bool) -> list[Choice]:
    return [
        Choice(("data.image_size=[96,96]", "data.channels=1"), "points need more pixels than classes"),
        Choice(
            ("task=landmarks", "model=resnet", "augment=light", "schedule=cosine", "optimizer.lr=0.002"),
            "points are to be found",
        ),
    ]


def _of_table(facts: Findings, numbers: bool) -> list[Choice]:
    task = [Choice(("task=regression",), "the label is a number")] if numbers else []
    return [*task, Choice(("model=mlp", "schedule=cosine"), "columns have no order: a multilayer perceptron")]


def _of_arrays(facts: Findings, numbers: bool) -> list[Choice]:
    """Return what suits arrays: images, or vectors."""
    if facts.pictures is not None and facts.pictures.smallest >= 8:
        return _network(facts)
    return [Choice(("model=mlp", "schedule=cosine"), "vectors: a multilayer perceptron")]


def _of_text(facts: Findings, numbers: bool) -> list[Choice]:
    return [
        Choice(
            ("data.reader.item=file", "data.sampling=streams", "data.stratify=false"),
            "one long text, read on from window to window",
        ),
        Choice(
            ("task=language", "model=lstm", "model.hidden=192", "model.keep_prob=0.8"),
            "its next characters are to be told",
        ),
        Choice(
            ("schedule=cosine", "optimizer.lr=0.005", "trainer.total_epochs=12", "trainer.batch_size=16"),
            "as in docs/sequences.md",
        ),
    ]


def _of_sentences(facts: Findings, numbers: bool) -> list[Choice]:
    return [
        Choice(
            ("task=sequence", "model=gru", "model.form=torch", "model.embedding=50", "model.keep_prob=0.7"),
            "sentences with a class each",
        ),
        Choice(("trainer.total_epochs=10",), "words are learned by heart soon"),
    ]


def _of_tags(facts: Findings, numbers: bool) -> list[Choice]:
    return [
        Choice(
            ("task=tagging", "model=lstm", "model.bidirectional=true", "model.embedding=50", "model.keep_prob=0.8"),
            "every token has a tag",
        ),
        Choice(
            ("schedule=cosine", "optimizer.lr=0.005", "trainer.total_epochs=10", "trainer.batch_size=32"),
            "as in docs/sequences.md",
        ),
    ]


def _of_style(facts: Findings, numbers: bool) -> list[Choice]:
    return [Choice(("experiment=style",), "a content and a style: one is painted in the way of the other")]


SUITED: Mapping[str, Callable[[Findings, bool], list[Choice]]] = {
    "image_folder": _of_pictures, "yolo": _of_boxes, "coco": _of_boxes, "voc": _of_boxes, "keypoints": _of_points, "table": _of_table,
    "text": _of_text, "labelled_lines": _of_sentences, "conll": _of_tags, "style_pair": _of_style,
}  # fmt: skip
