"""How far from human level, and what holds the result back (notes 000, part 4, section 2)."""

from collections.abc import Mapping
from dataclasses import dataclass

SLACK = 1e-9  # a difference of decimal error rates is not exact: 0.05 - 0.03 is above 0.02 in binary


@dataclass(frozen=True)
class Diagnosis:
    """The gap split into its parts, and the verdict.

    Attributes:
        gap: avoidable_bias = train - human; variance = dev - train (test - train without dev); dev_test = test - dev,
            None where a split is missing or not looked at.
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
    train: float, dev: float | None, test: float | None, *, human: float | None, tolerance: float
) -> Diagnosis:
    """Judge error rates against human level.

    Args:
        train, dev, test: error rates in [0, 1]; None: no such split, or not looked at yet.
        human: the error rate of the best humans; None: unknown, 0 is assumed.
        tolerance: a part of the gap above it is high.
    """
    judged = dev if dev is not None else test
    bias = train - (human or 0.0)
    variance = judged - train if judged is not None else None
    dev_test = test - dev if test is not None and dev is not None else None
    parts = {"avoidable_bias": bias, "variance": variance, "dev_overfit": dev_test}
    high = {name: part is not None and part > tolerance + SLACK for name, part in parts.items()}
    reasons = [name for name, is_high in high.items() if is_high]
    if human is not None and judged is not None and judged < human - SLACK:
        reasons.append("beyond_human")
    return Diagnosis(
        gap={"avoidable_bias": bias, "variance": variance, "dev_test": dev_test},
        verdict=VERDICTS[high["avoidable_bias"], high["variance"]],
        reasons=reasons,
    )


def errors(scores: Mapping[str, Mapping[str, float] | None]) -> tuple[float, float | None, float | None]:
    """Return the error rates of train, dev and test from their scores; None where a split has none."""
    train = scores["train"]
    assert train is not None
    rest = [scores.get(split) for split in ("dev", "test")]
    dev, test = (each["error"] if each else None for each in rest)
    return train["error"], dev, test
