"""What the files of a run folder, and of a search's, are called."""

CONFIG, CARD, CURVES = "config.yaml", "card.json", "curves.csv"
SUMMARY, WEIGHTS, CHECKPOINT = "train.json", "weights.safetensors", "checkpoint.pt"
CONTROL = "control.jsonl"
BEST = "best.yaml"
EVALUATION = (
    "metrics.json",
    "predictions.csv",
    "predictions.json",
    "precision_recall.csv",
    "confusion.csv",
    "report.html",
)
