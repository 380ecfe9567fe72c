"""Which single knob to turn next, in the notes' order of priority (000, part 4, section 2): first bias, then variance."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Situation:
    """The facts about a run that advice depends on.

    Attributes:
        model: its name. settings: the model's own settings.
        init, optimizer, regularizer, augment: the names chosen.
        is_images: whether examples are images that a convolution can use.
        total_epochs: declared. stopped_early: whether patience ended the training.
        train_size: number of train examples.
        seed: of this run.
    """

    model: str
    settings: dict[str, Any]
    init: str
    optimizer: str
    regularizer: str
    augment: str
    is_images: bool
    total_epochs: int
    stopped_early: bool
    train_size: int
    seed: int


@dataclass(frozen=True)
class Advice:
    """Why, and the overrides that do it; none where nothing on the command line can."""

    why: str
    overrides: tuple[str, ...] = ()


Rule = Callable[[Situation], Iterator[Advice]]


def advise(verdict: str, reasons: list[str], now: Situation) -> list[Advice]:
    """Return at least one piece of advice, most important first, never something already on."""
    advice = [each for rule in RULES[verdict] for each in rule(now)]
    if "dev_overfit" in reasons:
        advice.append(Advice("Test is worse than dev: the choices were fitted to dev. A larger dev set helps."))
    return advice


def _start(now: Situation) -> tuple[str, ...]:
    """Hidden units that start at zero stay equal."""
    return ("init=he",) if now.init == "zeros" else ()


def _other_start(now: Situation) -> Iterator[Advice]:
    if now.init == "zeros" and now.model != "logistic":
        yield Advice("Hidden units that start at zero stay equal: start at random.", ("init=he",))


def _larger_model(now: Situation) -> Iterator[Advice]:
    if now.model == "logistic":
        yield Advice("High bias: one linear layer is too simple; use a deeper network.", ("model=mlp", *_start(now)))
    if now.model == "mlp":
        layers = [2 * width for width in now.settings["layers"]] or [64]
        yield Advice("High bias: make the network larger.", (f"model.layers=[{','.join(map(str, layers))}]",))
    if "width" in now.settings:
        yield Advice("High bias: make the network wider.", (f"model.width={2 * now.settings['width']}",))


def _longer(now: Situation) -> Iterator[Advice]:
    if not now.stopped_early:
        yield Advice("High bias: train longer.", (f"trainer.total_epochs={2 * now.total_epochs}",))


def _better_optimizer(now: Situation) -> Iterator[Advice]:
    if now.optimizer != "adam":
        yield Advice("High bias: use a better optimizer.", ("optimizer=adam",))


def _convolution(now: Situation) -> Iterator[Advice]:
    if now.is_images and now.model in ("logistic", "mlp"):
        yield Advice(
            "The examples are images: a convolutional network suits them better.", ("model=resnet", *_start(now))
        )


def _less_dropout(now: Situation) -> Iterator[Advice]:
    if now.settings.get("keep_prob", 1.0) != 1.0:
        yield Advice("High bias with dropout on: keep every unit.", ("model.keep_prob=1.0",))


def _l2(now: Situation) -> Iterator[Advice]:
    if now.regularizer == "none":
        yield Advice("High variance: add a penalty on the weights.", ("regularizer=l2",))


def _dropout(now: Situation) -> Iterator[Advice]:
    if now.settings.get("keep_prob") == 1.0:
        yield Advice("High variance: drop units in training.", ("model.keep_prob=0.8",))


def _augment(now: Situation) -> Iterator[Advice]:
    if now.is_images and now.augment == "none":
        yield Advice(
            "High variance: more data by shifting (and flipping, where labels allow) images.", ("augment=light",)
        )


def _stop_earlier(now: Situation) -> Iterator[Advice]:
    if not now.stopped_early and now.total_epochs > 1:
        shorter = max(1, now.total_epochs // 2)
        yield Advice("High variance: stop earlier.", (f"trainer.total_epochs={shorter}",))


def _more_data(now: Situation) -> Iterator[Advice]:
    yield Advice(f"High variance: collect more data than the {now.train_size} train examples.")


def _another_seed(now: Situation) -> Iterator[Advice]:
    yield Advice(
        "Bias and variance are within tolerance: see whether another seed says the same.", (f"seed={now.seed + 1}",)
    )


BIAS: tuple[Rule, ...] = (_other_start, _larger_model, _longer, _better_optimizer, _convolution, _less_dropout)
VARIANCE: tuple[Rule, ...] = (_l2, _dropout, _augment, _convolution, _stop_earlier, _more_data)
RULES: dict[str, tuple[Rule, ...]] = {
    "just_right": (_another_seed,),
    "high_bias": BIAS,
    "high_variance": VARIANCE,
    "high_bias_and_variance": BIAS + VARIANCE,
}
