"""What the files of a run folder, and of a search's, are called."""

from pathlib import Path

PROGRESS = "progress"
CONFIG, CARD, CURVES = "config.yaml", "card.json", "curves.csv"
SUMMARY, WEIGHTS, CHECKPOINT = "train.json", "weights.safetensors", "checkpoint.pt"
CONTROL, SEEN, BEST = "control.jsonl", "seen.safetensors", "best.yaml"
UNFINISHED = (
    "unfinished"  # the folder in which the best weights so far of a run that was stopped stand as those of a run
)
RUN_FILES = (CONFIG, CARD, CURVES, SUMMARY, WEIGHTS, SEEN)  # what a finished run leaves for later commands
SCORES = "scores.json"  # the few numbers of metrics.json that DVC shows
EVALUATION = (
    "metrics.json",
    SCORES,
    "predictions.csv",
    "predictions.json",
    "predictions_names.json",
    "precision_recall.csv",
    "confusion.csv",
    "report.html",
)


FIRST_BATCH = "first_batch.png"
HISTOGRAMS = "histograms.json"  # how weights and activations are spread at the start and at the end


def frame_of(folder: Path, epoch: int) -> Path:
    """Return the file of the picture that a run keeps of an epoch, where its task draws one."""
    return folder / PROGRESS / f"{epoch:05d}.png"


def frames_of(folder: Path) -> list[Path]:
    """Return the pictures that a run has kept, one of each epoch, in order; other files there are a person's own."""
    found = (folder / PROGRESS).glob("*.png")
    return sorted(file for file in found if file.stem.isdigit() and file == frame_of(folder, int(file.stem)))
