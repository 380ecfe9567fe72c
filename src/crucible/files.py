"""What the files of a run folder are called."""

CONFIG, CARD, CURVES = "config.yaml", "card.json", "curves.csv"
SUMMARY, WEIGHTS, CHECKPOINT = "train.json", "weights.safetensors", "checkpoint.pt"
CONTROL = "control.jsonl"
EVALUATION = (
    "metrics.json",
    "predictions.csv",
    "predictions.json",
    "predictions_names.json",
    "precision_recall.csv",
    "confusion.csv",
    "report.html",
)
