"""How far from human level, and what holds the result back (notes 000, part 4, section 2; part 7)."""

from collections.abc import Mapping
from dataclasses import dataclass

SLACK = 1e-9  # a difference of decimal error rates is not exact: 0.05 - 0.03 is above 0.02 in binary
Scores = Mapping[str, Mapping[str, float] | None]


@dataclass(frozen=True)
class Diagnosis:
    """The gap split into its parts, and the verdict.

    Attributes:
        gap: avoidable_bias = train - human; variance = dev - train (test - train without dev); dev_test = test - dev,
            None where a split is missing or not looked at. With a train_dev split variance = train_dev - train and
            mismatch = dev - train_dev.
        verdict: high_bias, high_variance, high_bias_and_variance or just_right.
        reasons: the parts above tolerance, and beyond_human.
    """

    gap: dict[str, float | None]
    verdict: str
    reasons: list[str]


VERDICTS = {
    (False, False): "just_right",
    (True, False): "high_bias",
    (False, True): "high_variance",
    (True, True): "high_bias_and_variance",
}


def diagnose(
    train: float,
    dev: float | None,
    test: float | None,
    *,
    human: float | None,
    tolerance: float,
    train_dev: float | None = None,
) -> Diagnosis:
    """Judge errors against human level.

    Args:
        train, dev, test: error rates in [0, 1], or RMSEs; None: no such split, or not looked at yet.
        human: the error of the best humans; None: unknown, 0 is assumed.
        tolerance: a part of the gap above it is high.
        train_dev: of examples like those of train that were not trained on.
    """
    judged = dev if dev is not None else test
    unseen = train_dev if train_dev is not None else judged
    gap = {
        "avoidable_bias": train - (human or 0.0),
        "variance": unseen - train if unseen is not None else None,
        **({"mismatch": dev - train_dev} if dev is not None and train_dev is not None else {}),
        "dev_test": test - dev if test is not None and dev is not None else None,
    }
    reasons = {"dev_test": "dev_overfit"}
    high = [reasons.get(name, name) for name, part in gap.items() if part is not None and part > tolerance + SLACK]
    if human is not None and judged is not None and judged < human - SLACK:
        high.append("beyond_human")
    return Diagnosis(gap, VERDICTS["avoidable_bias" in high, "variance" in high], high)


def errors(scores: Scores) -> tuple[float, float | None, float | None]:
    """Return the errors of train, dev and test from their scores; None where a split has none."""
    train = scores["train"]
    assert train is not None
    rest = [scores.get(split) for split in ("dev", "test")]
    dev, test = (each["error"] if each else None for each in rest)
    return train["error"], dev, test
