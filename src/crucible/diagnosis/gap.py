"""How far from human level, and what holds the result back (notes 000, part 4, section 2; part 7).

A part of the gap is named high, or not, where the number of examples tells; else it is unclear. How often a named one is right
was simulated: docs/trust.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from crucible.metrics.evidence import Measured, difference

SLACK = 1e-9  # a difference of decimal error rates is not exact: 0.05 - 0.03 is above 0.02 in binary
Scores = Mapping[str, Mapping[str, float] | None]
Evidence = Mapping[str, Mapping[str, float | None]]
REASONS = {"dev_test": "dev_overfit"}


@dataclass(frozen=True)
class Diagnosis:
    """The gap split into its parts, and the verdict.

    Attributes:
        gap: avoidable_bias = train - human (or the Bayes error, where it is known); variance = dev - train (test - train without dev); dev_test = test - dev,
            None where a split is missing or not looked at. With a train_dev split variance = train_dev - train and
            mismatch = dev - train_dev. Without a human level the bias of an error that is no rate stays unclear.
        verdict: high_bias, high_variance, high_bias_and_variance, just_right, or unclear.
        reasons: the parts above tolerance, beyond_human, and beyond_bayes: better than what is possible.
        bounds: of each part, by the number of examples. unclear: parts that may be above tolerance, or not.
    """

    gap: dict[str, float | None]
    verdict: str
    reasons: list[str]
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    unclear: list[str] = field(default_factory=list)


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
    bayes: float | None = None,
    tolerance: float,
    train_dev: float | None = None,
    evidence: Evidence | None = None,
    is_rate: bool = True,
    early: bool = False,
) -> Diagnosis:
    """Judge errors against human level.

    Args:
        train, dev, test: error rates in [0, 1], or RMSEs; None: no such split, or not looked at yet.
        human: the error of the best humans; None: unknown. bayes: the least that is possible; None: unknown. Bias is avoidable down to the
            Bayes error, or where that is unknown to the human one, which estimates it; of a rate without either to 0.
        tolerance: a part of the gap above it is high.
        train_dev: of examples like those of train that were not trained on.
        evidence: `size` and `spread` by split, as of `Measured`; None: the errors are exact.
        is_rate: whether the error is a share of mistakes.
        early: whether few dev examples chose an epoch before train was learned: its error on train is no bias.
    """
    known = {"train": train, "train_dev": train_dev, "dev": dev, "test": test}
    errors = {split: _measured(error, split, evidence) for split, error in known.items() if error is not None}
    base = human if bayes is None else bayes
    pairs = _pairs(errors, Measured(base or 0.0, spread=0.0))
    gap = {name: b.error - a.error if a and b else None for name, (a, b) in pairs.items()}
    bounds = {name: difference(a, b) for name, (a, b) in pairs.items() if a and b}
    states = {name: _state(bounds.get(name), tolerance) for name in pairs}
    if (base is None and not is_rate) or (early and states["avoidable_bias"] == "high"):
        states["avoidable_bias"] = "unclear"
    high = [REASONS.get(name, name) for name, state in states.items() if state == "high"]
    judged = errors.get("dev", errors.get("test"))
    if human is not None and judged is not None and judged.bounds()[1] < human - SLACK:
        high.append("beyond_human")
    if bayes is not None and judged is not None and judged.bounds()[1] < bayes - SLACK:
        high.append("beyond_bayes")
    unclear = [name for name in ("avoidable_bias", "variance") if states[name] == "unclear"]
    verdict = VERDICTS["avoidable_bias" in high, "variance" in high]
    return Diagnosis(gap, "unclear" if verdict == "just_right" and unclear else verdict, high, bounds, unclear)


def in_practice(found: Diagnosis) -> Diagnosis:
    """Return the diagnosis of a run on other data than its own: that they are worse than dev is no fitting to dev, but another target."""
    reasons = ["practice_differs" if each == REASONS["dev_test"] else each for each in found.reasons]
    return replace(found, reasons=reasons)


def not_applicable() -> Diagnosis:
    """Return the diagnosis of what has no gap: nothing is learned about other examples."""
    gap: dict[str, float | None] = dict.fromkeys(("avoidable_bias", "variance", "dev_test"))
    return Diagnosis(gap, "unclear", [], unclear=["avoidable_bias", "variance"])


def _pairs(errors: Mapping[str, Measured], human: Measured) -> dict[str, tuple[Measured | None, Measured | None]]:
    """Return the two errors that each part of the gap lies between; None where there is no such split."""
    train, dev, test, apart = (errors.get(split) for split in ("train", "dev", "test", "train_dev"))
    mismatch = {"mismatch": (apart, dev)} if apart and dev else {}
    return {
        "avoidable_bias": (human, train),
        "variance": (train, apart or dev or test),
        **mismatch,
        "dev_test": (dev, test),
    }


def _measured(error: float, split: str, evidence: Evidence | None) -> Measured:
    facts = (evidence or {}).get(split)
    return Measured(error, spread=0.0) if facts is None else Measured(error, facts["size"] or 1, facts["spread"])


def _state(bounds: tuple[float, float] | None, tolerance: float) -> str:
    """Return whether a part is `high`, `low`, or `unclear`; one that is not known is unclear."""
    if bounds is None:
        return "unclear"
    return "high" if bounds[0] > tolerance + SLACK else "low" if bounds[1] <= tolerance + SLACK else "unclear"


def errors(scores: Scores) -> tuple[float, float | None, float | None]:
    """Return the errors of train, dev and test from their scores; None where a split has none."""
    train = scores["train"]
    assert train is not None
    rest = [scores.get(split) for split in ("dev", "test")]
    dev, test = (each["error"] if each else None for each in rest)
    return train["error"], dev, test
