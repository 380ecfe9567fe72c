"""What the files of a run folder, and of a search's, are called."""

CONFIG, CARD, CURVES = "config.yaml", "card.json", "curves.csv"
SUMMARY, WEIGHTS, CHECKPOINT = "train.json", "weights.safetensors", "checkpoint.pt"
CONTROL, SEEN, BEST = "control.jsonl", "seen.safetensors", "best.yaml"
RUN_FILES = (CONFIG, CARD, CURVES, SUMMARY, WEIGHTS, SEEN)  # what a finished run leaves for later commands
PROGRESS = "progress"  # a folder of pictures, one of each epoch, where a task draws them
EVALUATION = (
    "metrics.json",
    "predictions.csv",
    "predictions.json",
    "predictions_names.json",
    "precision_recall.csv",
    "confusion.csv",
    "report.html",
)
