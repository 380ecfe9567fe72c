"""Which single knob to turn next, in the notes' order of priority: does it learn at all, then bias, then variance.

The order is that of 000, part 4, section 2 (a larger network, longer, a better optimizer, convolution; then more data,
regularisation, convolution), the remedies of curves that go wrong those of 002, 4.3. Each piece turns one knob.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from crucible.models.resnet import first_width


@dataclass(frozen=True)
class Symptoms:
    """What was seen in a run besides its errors.

    Attributes:
        pattern: of the loss curves, or None. learning: whether the train loss left that of guessing.
        dead_units: the largest share of dead units in a layer. flow: warnings about layers.
        shifts: pairs of splits that differ, such as "dev, test". missed: satisficing bounds that are not met.
        costliest: the kind of mistake of a detector that costs most.
    """

    pattern: str | None = None
    learning: bool = True
    dead_units: float = 0.0
    flow: tuple[str, ...] = ()
    shifts: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    costliest: str = ""
    falling: bool = False  # the losses still fell at the end, or the training was too short to tell
    early: bool = False  # few dev examples chose an epoch before train was learned
    own: tuple[str, ...] = ()  # what only its task knows
    below_baseline: bool = False  # worse than an answer that never looks

    def reasons(self) -> list[str]:
        """Return names for what is wrong."""
        gradients = [each.split()[1] for each in self.flow]
        return [
            *(["below_baseline"] if self.below_baseline else []),
            *self.own,
            *(["not_learning"] if not self.learning else []),
            *(["diverging"] if self.pattern == "diverging" else []),
            *(["vanishing"] if "vanish" in gradients else []),
            *(["exploding"] if "explode" in gradients else []),
            *(["dead_units"] if self.dead_units > MANY_DEAD else []),
            *(f"{pair.replace(', ', '_')}_differ" for pair in self.shifts),
            *(["bound_missed"] if self.missed else []),
        ]


MANY_DEAD = 0.25
LARGEST_BATCH = 512  # examples (notes 000, part 5)
MANY_STEPS = 1000  # one step an epoch needs so many epochs to get anywhere
WEIGHTS = {"badly placed": "box_weight", "wrong class": "class_weight", "background": "background_weight"}
FINEST, HEAVY = 4, 8  # pixels of a cell, weight of a part of the loss
SHORT = 4  # epochs, below which there is no trend to see
SPENT = 0.1  # of the first rate: where the schedule has ended so low, level losses are its doing
WIDE, LONG = 256, 200  # hidden units, epochs: where there are as many, more are rarely what is missing


@dataclass(frozen=True)
class RunContext:
    """The facts about a run that advice depends on.

    Attributes:
        model: its name. settings: the model's own settings.
        init, optimizer, regularizer, augment: the names chosen.
        lr: the optimizer's. batch_size: as declared. dev_share: as declared.
        feature_shape: of an example. class_counts: of train; none for numbers. class_weights, sampling: as declared.
        total_epochs: declared. stopped_early: whether patience ended the training.
        train_size: number of train examples.
        seed: of this run. max_norm: of the gradient.
        symptoms: what was seen.
        bias, variance: these parts of the gap. unclear: the parts that so many dev examples do not tell. dev_size: how many.
        epochs, best_epoch: trained, and chosen. steps: taken. rate_left: the last rate as a share of the first.
        flip_keeps_label: as declared. seeds_tried: other seeds of this configuration that were trained on these data.
    """

    model: str
    settings: dict[str, Any]
    init: str
    optimizer: str
    regularizer: str
    augment: str
    lr: float
    batch_size: int | None
    dev_share: float
    feature_shape: list[int]
    class_counts: list[int]
    class_weights: str | list[float]
    sampling: str
    total_epochs: int
    stopped_early: bool
    train_size: int
    seed: int
    max_norm: float = inf
    symptoms: Symptoms = field(default_factory=Symptoms)
    freeze: str | int | None = None  # old layers that do not learn; None: no transfer
    cached: bool = False  # whether features that are computed once are insisted on
    task: dict[str, Any] = field(default_factory=dict)  # the task's own settings
    bias: float = 0.0
    variance: float = 0.0
    unclear: tuple[str, ...] = ()
    tolerance: float = 0.0
    dev_size: int = 0
    train_dev_share: float = 0.0
    epochs: int | None = None
    best_epoch: int | None = None
    steps: int | None = None
    rate_left: float = 1.0
    flip_keeps_label: bool = True
    human_missing: bool = False  # an error that is no rate, and nothing to compare it with
    seeds_tried: tuple[int, ...] = ()
    outputs: int | None = None  # of the network: one for two classes, and for a number; None: one for each class

    @property
    def width(self) -> int | None:
        """Channels of a residual network's first stage; None: another model."""
        known = {"width", "depth"} <= set(self.settings)
        return self.settings["width"] or first_width(self.settings["depth"]) if known else None

    @property
    def chose_late(self) -> bool:
        """Whether the chosen epoch is among the last fifth: before, more epochs would give the same weights again."""
        return self.best_epoch is None or self.epochs is None or self.best_epoch > 0.8 * self.epochs

    @property
    def is_images(self) -> bool:
        """Whether examples are images that a convolution can use."""
        return len(self.feature_shape) == 3 and min(self.feature_shape[1:]) >= 4


@dataclass(frozen=True)
class Advice:
    """Why, and the overrides that do it; none where nothing on the command line can. `sweep`: the same for several runs."""

    why: str
    overrides: tuple[str, ...] = ()
    sweep: tuple[str, ...] = ()

    @property
    def knob(self) -> str:
        """The key that it turns; of advice without overrides its words."""
        return self.overrides[0].partition("=")[0] if self.overrides else self.why


Rule = Callable[[RunContext], Iterator[Advice]]


def advise(verdict: str, reasons: list[str], now: RunContext) -> list[Advice]:
    """Return advice, most important first, never something already on, no knob in two directions.

    Args:
        verdict, reasons: of the gap. now: the run, with what was seen in it.
    """
    rules = [*_for(now.symptoms.reasons(), URGENT), *([] if verdict == "just_right" else [_still_learning])]
    inner = _for(now.symptoms.reasons(), INNER)
    own = _rules(verdict, now)
    rules += [*inner, *own] if "bias" in verdict else [*own, *inner]
    rules += [*_for(reasons, LAST), _differ, *THUMB]
    found: dict[str, Advice] = {}
    for each in (each for rule in rules for each in rule(now) if _is_open(each, now)):
        found.setdefault(each.knob, each)
    return list(found.values())


def _rules(verdict: str, now: RunContext) -> list[Rule]:
    """Return the rules of a verdict: of two parts that are high, the larger one's first; of an unclear one what would tell."""
    if verdict == "high_bias_and_variance":
        return [*BIAS, *VARIANCE] if now.bias >= now.variance else [*VARIANCE, *BIAS]
    if verdict == "unclear":
        bias = "avoidable_bias" in now.unclear and not now.human_missing and now.bias > now.tolerance
        variance = "variance" in now.unclear and now.variance > now.tolerance
        return [_unclear, *(_supposed(rule) for rule in [*(BIAS if bias else ()), *(VARIANCE if variance else ())])]
    return list(RULES[verdict])


def _supposed(rule: Rule) -> Rule:
    """Return a rule whose reasons do not claim what is unclear."""

    def supposed(now: RunContext) -> Iterator[Advice]:
        for each in rule(now):
            why = each.why.replace("High bias", "If the bias is real").replace(
                "High variance", "If the variance is real"
            )
            yield replace(each, why=why)

    return supposed


def _new_split(now: RunContext, override: str) -> tuple[str, ...]:
    """Return the override, but not after a transfer: another split would be tested on what the source has seen."""
    return (override,) if now.freeze is None else ()


def _unclear(now: RunContext) -> Iterator[Advice]:
    """What would tell: more dev examples, or a human level."""
    if now.human_missing:
        yield Advice(
            "Nothing tells whether the bias is high: declare what the best reach, in the target's unit (data.human_error)."
        )
    if "variance" not in now.unclear:
        yield Advice(f"{now.train_size} train examples do not decide whether the bias is high: more of them would.")
        return
    if not now.dev_size:
        yield Advice(
            "Nothing tells whether the variance is high: hold examples out (data.split.dev), or evaluate on test."
        )
        return
    if now.train_dev_share:
        share = _new_split(now, f"data.split.train_dev={min(0.5, 2 * now.train_dev_share):g}")
        yield Advice("The variance is not decided by so few train_dev examples: more of them would tell.", share)
        return
    larger = _new_split(now, f"data.split.dev={1.5 * now.dev_share:g}") if 0 < now.dev_share <= 0.5 else ()
    yield Advice(f"The variance is not decided by {now.dev_size} dev examples: more of them would tell.", larger)


def _by_eye(now: RunContext) -> Iterator[Advice]:
    """What has no gap is judged by somebody who looks at it."""
    if beta := now.task.get("beta"):
        several = (f"task.beta={beta / 10:g},{beta:g},{10 * beta:g}",)
        yield Advice(
            "Only the eye tells how much style is enough: paint three.", (f"task.beta={10 * beta:g}",), several
        )


def _swinging(now: RunContext) -> Iterator[Advice]:
    if now.rate_left > SPENT:
        yield Advice(
            "The point swings around the lowest one: let the rate decay (notes 000, part 5, section 5).",
            ("schedule=inverse_time",),
        )
    yield Advice("The point swings: take smaller steps.", (f"optimizer.lr={now.lr / 3:.2g}",))


def _other_ways(now: RunContext) -> Iterator[Advice]:
    """What moves over a surface is compared with what moves otherwise."""
    if "function" in now.task:
        other = "momentum" if now.optimizer != "momentum" else "adam"
        yield Advice(
            "Other optimizers take other ways: let several go, and draw them in one picture (compare.py).",
            (f"optimizer={other}",), sweep=("optimizer=sgd,momentum,nesterov,adagrad,rmsprop,adam",),
        )  # fmt: skip


def _still_learning(now: RunContext) -> Iterator[Advice]:
    """Nothing else can be known of a training that was not over."""
    if now.symptoms.falling and not now.stopped_early and now.chose_late:
        taken = f" after {now.steps:,} steps" if now.steps else ""
        losses = "Both losses still fall" if now.dev_size else "The train loss still falls"
        what = losses if (now.epochs or SHORT) >= SHORT else f"{now.epochs} epochs are too few to show a trend"
        yield Advice(f"{what}{taken}: train longer.", (f"trainer.total_epochs={2 * now.total_epochs}",))


def _is_open(advice: Advice, now: RunContext) -> bool:
    """Whether the knob can be turned: weights from another run fix the layers, and how they start."""
    fixed = ("model=", "model.layers", "model.width", "model.depth", "model.batch_norm", "init=")
    return now.freeze is None or not any(each.startswith(fixed) for each in advice.overrides)


def _for(reasons: list[str], table: dict[str, tuple[Rule, ...]]) -> list[Rule]:
    return [rule for reason in reasons for rule in table.get(reason, ())]


def _start(now: RunContext) -> tuple[str, ...]:
    """Hidden units that start at zero stay equal."""
    return ("init=he",) if now.init == "zeros" else ()


def _is_deep(now: RunContext) -> bool:
    return now.model not in ("logistic", "perceptron")


def _other_start(now: RunContext) -> Iterator[Advice]:
    if now.init == "zeros" and _is_deep(now):
        yield Advice("Hidden units that start at zero stay equal: start at random.", ("init=he",))


def _stuck(now: RunContext) -> Iterator[Advice]:
    if not _is_deep(now):  # there is nothing to start better: the model is too simple, or there is nothing to learn
        return
    if now.init in ("zeros", "normal") and _is_deep(now):
        yield Advice(
            "The loss stays at that of guessing: start with He's rule (notes 000, part 3, section 3).", ("init=he",)
        )
    if now.optimizer != "adam":
        yield Advice("The loss stays at that of guessing: use a better optimizer.", ("optimizer=adam",))
    yield Advice("The loss stays at that of guessing: take larger steps.", (f"optimizer.lr={10 * now.lr:g}",))


def _collapsed(now: RunContext) -> Iterator[Advice]:
    """All codes are one: what lets a network that compares pictures do so."""
    if now.task.get("margin") == 0:
        yield Advice("All codes are one, which a margin of 0 allows: demand a distance.", ("task.margin=0.2",))
    if now.task.get("mining") == "hard":
        yield Advice("All codes are one: the hardest triplets alone drive them together.", ("task.mining=semi_hard",))
    yield Advice("All codes are one: take smaller steps.", (f"optimizer.lr={now.lr / 10:g}",))


def _smaller_steps(now: RunContext) -> Iterator[Advice]:
    yield Advice("Train and dev loss rise: take smaller steps.", (f"optimizer.lr={now.lr / 10:g}",))


def _vanishing(now: RunContext) -> Iterator[Advice]:
    if now.model == "rnn" and any("over time" in each for each in now.symptoms.flow):
        yield Advice("Gradients vanish over time: what is far back is not learned; gates keep them.", ("model=lstm",))
    if not _is_deep(now):
        return
    if now.init not in ("he", "xavier", "inverse", "default"):
        yield Advice("Signals vanish between the layers: start with He's rule.", ("init=he",))
    if now.settings.get("activation") in ("sigmoid", "tanh"):
        yield Advice("Gradients vanish where sigmoid and tanh are flat: use relu.", ("model.activation=relu",))
    if now.settings.get("batch_norm") is False and now.batch_size != 1:
        yield Advice("Signals vanish between the layers: normalise them.", ("model.batch_norm=true",))


def _exploding(now: RunContext) -> Iterator[Advice]:
    if now.init == "normal":
        yield Advice("Signals explode between the layers: start with He's rule.", ("init=he",))
    if now.max_norm > 1:
        yield Advice("Signals explode between the layers: clip the gradient.", ("trainer.max_norm=1",))


def _dead(now: RunContext) -> Iterator[Advice]:
    share = f"{100 * now.symptoms.dead_units:.0f} % of the units of a layer fire for no example"
    if now.settings.get("activation") == "relu":
        yield Advice(f"{share}: let a little through below zero.", ("model.activation=leaky_relu",))
    if now.init not in ("xavier", "inverse") and _is_deep(now):
        yield Advice(f"{share}: start with Xavier's rule (notes 002, 3.2).", ("init=xavier",))
    yield Advice(f"{share}: take smaller steps.", (f"optimizer.lr={now.lr / 3:.2g}",))
    if now.optimizer not in ("adagrad", "adam", "adamw", "rmsprop", "adadelta"):
        yield Advice(f"{share}: let each weight have a rate of its own (notes 002, 3.2).", ("optimizer=adagrad",))


def _smaller_model(now: RunContext) -> Iterator[Advice]:
    costs = [name for name in now.symptoms.missed if name in ("latency_ms_per_example", "parameters")]
    missed = f"The bound on {', '.join(costs)} is not met: make the network smaller."
    if not costs:  # a bound on a score is met by what fixes bias and variance
        return
    if now.model == "mlp" and max(now.settings["layers"], default=1) > 1:
        layers = [max(1, width // 2) for width in now.settings["layers"]]
        yield Advice(missed, (f"model.layers=[{','.join(map(str, layers))}]",))
    if now.width is not None and now.width > 1:
        yield Advice(missed, (f"model.width={now.width // 2}",))


def _larger_model(now: RunContext) -> Iterator[Advice]:
    if now.model in ("logistic", "perceptron"):
        yield Advice("High bias: one linear layer is too simple; use a deeper network.", ("model=mlp", *_start(now)))
    if now.model == "mlp" and 2 * max(now.settings["layers"], default=0) <= WIDE:
        layers = [2 * width for width in now.settings["layers"]] or [64]
        yield Advice("High bias: make the network larger.", (f"model.layers=[{','.join(map(str, layers))}]",))
    if now.width is not None and 2 * now.width <= WIDE:
        yield Advice("High bias: make the network wider.", (f"model.width={2 * now.width}",))
    if now.settings.get("bidirectional") is False and "of" not in now.task:  # a language model may not look ahead
        yield Advice("High bias: let a second direction see what comes later.", ("model.bidirectional=true",))
    if 2 * (hidden := now.settings.get("hidden", WIDE)) <= WIDE:
        yield Advice("High bias: make the network wider.", (f"model.hidden={2 * hidden}",))


def _objects(now: RunContext) -> Iterator[Advice]:
    """What fixes the costliest kind of mistake of a detector."""
    kind = now.symptoms.costliest
    if kind == "missed" and not now.task["near"]:
        yield Advice("Missed objects cost most: let the cells beside a centre learn it, too.", ("task.near=true",))
    if kind == "missed" and now.settings["stride"] > FINEST:
        yield Advice("Missed objects cost most: a finer grid.", (f"model.stride={now.settings['stride'] // 2}",))
    if kind in WEIGHTS and now.task[key := WEIGHTS[kind]] < HEAVY:
        yield Advice(
            f"Mistakes of the kind '{kind}' cost most: weigh them more.", (f"task.{key}={2 * now.task[key]:g}",)
        )
    if kind == "duplicate" and now.task["overlap"] > 0.3:
        yield Advice(
            "Boxes found twice cost most: suppress sooner.", (f"task.overlap={now.task['overlap'] - 0.1:.1f}",)
        )


def _uncached(now: RunContext) -> tuple[str, ...]:
    return ("transfer.cache=auto",) if now.cached else ()


def _thaw(now: RunContext) -> Iterator[Advice]:
    if now.freeze not in (None, "none", 0):
        yield Advice(
            "High bias with old layers frozen: let them learn, too (notes 000, part 7, section 4).",
            ("transfer.freeze=none", *_uncached(now)),
        )


def _longer(now: RunContext) -> Iterator[Advice]:
    if not now.stopped_early and now.symptoms.pattern != "bottleneck" and now.total_epochs < LONG and now.chose_late:
        yield Advice("High bias: train longer.", (f"trainer.total_epochs={2 * now.total_epochs}",))


def _plateau(now: RunContext) -> Iterator[Advice]:
    if now.symptoms.pattern == "bottleneck" and now.rate_left > SPENT:
        yield Advice("High bias, and both losses are level: take smaller steps.", (f"optimizer.lr={now.lr / 3:.2g}",))
        if now.batch_size is not None and now.batch_size >= 2:
            yield Advice(
                "High bias, and both losses are level: smaller batches (notes 002, 4.3).",
                (f"trainer.batch_size={now.batch_size // 2}",),
            )


def _larger_steps(now: RunContext) -> Iterator[Advice]:
    if now.symptoms.pattern != "bottleneck":
        yield Advice(
            "High bias: the rate matters most (notes 000, part 6); take larger steps.",
            (f"optimizer.lr={3 * now.lr:.2g}",),
        )


def _better_optimizer(now: RunContext) -> Iterator[Advice]:
    if now.optimizer != "adam":
        yield Advice("High bias: use a better optimizer.", ("optimizer=adam",))


def _convolution(now: RunContext) -> Iterator[Advice]:
    if now.is_images and now.batch_size != 1 and now.model in ("logistic", "mlp", "perceptron"):
        yield Advice(
            "The examples are images: a convolutional network suits them better.", ("model=resnet", *_start(now))
        )


def _less_dropout(now: RunContext) -> Iterator[Advice]:
    if now.settings.get("keep_prob", 1.0) != 1.0:
        yield Advice("High bias with dropout on: keep every unit.", ("model.keep_prob=1.0",))


def _no_penalty(now: RunContext) -> Iterator[Advice]:
    if now.regularizer != "none":
        yield Advice("High bias with a penalty on: leave it away.", ("regularizer=none",))


def _augment(now: RunContext) -> Iterator[Advice]:
    stronger = {"none": "light", "light": "strong"}.get(now.augment)
    if now.is_images and stronger:
        flips = "" if now.flip_keeps_label else "; say data.flip_keeps_label=true if a mirrored image keeps its label"
        yield Advice(
            f"High variance: more data, by changing images in training ({stronger}){flips}.",
            (f"augment={stronger}", *_uncached(now)),
        )


def _l2(now: RunContext) -> Iterator[Advice]:
    if now.regularizer == "none":
        yield Advice("High variance: add a penalty on the weights.", ("regularizer=l2",))


def _dropout(now: RunContext) -> Iterator[Advice]:
    if now.settings.get("keep_prob") == 1.0:
        yield Advice("High variance: drop units in training.", ("model.keep_prob=0.8",))


def _simpler(now: RunContext) -> Iterator[Advice]:
    """Fewer layers or units, where there is no bias that they would add to (notes 002, 4.3)."""
    if now.bias > now.tolerance:
        return
    if now.model == "mlp" and (layers := now.settings["layers"]) and now.settings.get("weights") is None:
        fewer = layers[:-1] if len(layers) > 1 else [max(1, layers[0] // 2)]
        what = "a layer less" if len(layers) > 1 else "half the units"
        yield Advice(
            f"High variance: {what} (notes 002, 4.3).",
            (f"model.layers={_listed(fewer)}", *_dropout_of(now, len(fewer))),
        )
    if now.width is not None and now.width > 1:
        yield Advice("High variance: half the channels (notes 002, 4.3).", (f"model.width={now.width // 2}",))
    if (hidden := now.settings.get("hidden", 1)) > 1:
        yield Advice("High variance: half the units (notes 002, 4.3).", (f"model.hidden={hidden // 2}",))


def _dropout_of(now: RunContext, layers: int) -> list[str]:
    """Return the override that leaves one keep_prob a layer, where each layer has its own."""
    own = now.settings.get("keep_prob")
    return [f"model.keep_prob={_listed(own[:layers])}"] if isinstance(own, list) and len(own) > layers else []


def _listed(values: Sequence[float]) -> str:
    return f"[{','.join(map(str, values))}]"


def _larger_batch(now: RunContext) -> Iterator[Advice]:
    if now.batch_size is not None and 2 * now.batch_size <= min(LARGEST_BATCH, now.train_size):
        yield Advice(
            "High variance: a larger batch follows single examples less (notes 002, 4.3).",
            (f"trainer.batch_size={2 * now.batch_size}",),
        )


def _plain_descent(now: RunContext) -> Iterator[Advice]:
    if now.optimizer in ("adam", "adamw"):
        yield Advice(
            "High variance: plain descent may generalise better than Adam, and takes longer (notes 002, 4.3).",
            ("optimizer=sgd",),
        )


def _stop_earlier(now: RunContext) -> Iterator[Advice]:
    """Without dev the last weights are taken; with dev the best epoch's are, and nothing would change."""
    if not now.stopped_early and now.total_epochs > 1 and now.dev_size == 0:
        shorter = max(1, now.total_epochs // 2)
        yield Advice("High variance: stop earlier.", (f"trainer.total_epochs={shorter}",))


def _more_data(now: RunContext) -> Iterator[Advice]:
    yield Advice(f"High variance: collect more data than the {now.train_size} train examples.")


def _another_seed(now: RunContext) -> Iterator[Advice]:
    if now.seeds_tried:
        seeds = ", ".join(map(str, now.seeds_tried))
        yield Advice(
            f"Bias and variance are within tolerance, and seed {seeds} is trained, too: compare them (compare.py)."
        )
        return
    more = ",".join(str(now.seed + i) for i in (1, 2, 3))
    yield Advice(
        "Bias and variance are within tolerance: see whether other seeds say the same, and compare them (compare.py).",
        (f"seed={now.seed + 1}",), sweep=(f"seed={more}",),
    )  # fmt: skip


def _larger_dev(now: RunContext) -> Iterator[Advice]:
    larger = _new_split(now, f"data.split.dev={1.5 * now.dev_share:g}") if 0 < now.dev_share <= 0.5 else ()
    yield Advice("Test is worse than dev: the choices were fitted to dev. A larger dev set helps.", larger)


def _practice(now: RunContext) -> Iterator[Advice]:
    yield Advice(
        "Good on its own dev and test, and worse on these data: the target is not where practice is. Put examples like these into dev and test, "
        "or say which mistakes matter (task.mistake_costs; notes 000, part 7, section 1)."
    )


def _impossible(now: RunContext) -> Iterator[Advice]:
    yield Advice(
        "The error is below what anybody can reach: examples have leaked, or data.bayes_error is not the least possible."
    )


def _like_dev(now: RunContext) -> Iterator[Advice]:
    yield Advice("Dev is worse than unseen train examples: its data differ. Collect train data that are like dev.")


def _differ(now: RunContext) -> Iterator[Advice]:
    for pair in now.symptoms.shifts:
        yield Advice(
            f"The splits {pair} come from different distributions: merge what was collected and split it anew."
        )


def _batch_rule(now: RunContext) -> Iterator[Advice]:
    small, enough = now.train_size < 2000, now.steps is None or now.total_epochs >= MANY_STEPS
    if small and now.batch_size is not None and now.batch_size > 1 and enough:
        yield Advice(
            f"Rule of thumb: under 2000 examples ({now.train_size}) take them all at once (notes 000, part 5).",
            ("trainer.batch_size=null",),
        )
    if not small and (now.batch_size is None or not 64 <= now.batch_size <= 512):
        yield Advice("Rule of thumb: batches of 64 to 512 (notes 000, part 5).", ("trainer.batch_size=128",))


def _images_rule(now: RunContext) -> Iterator[Advice]:
    fewest = min(now.class_counts, default=1000)
    if now.is_images and fewest < 1000:
        yield Advice(
            f"Rule of thumb: a sturdy model needs about 1000 images a class, the smallest has {fewest} (notes 000, part 3)."
        )


def _balance_rule(now: RunContext) -> Iterator[Advice]:
    counts = [count for count in now.class_counts if count]
    if counts and max(counts) > 3 * min(counts) and now.class_weights == "none" and now.sampling == "shuffle":
        yield Advice(
            f"The classes are uneven (from {min(counts)} to {max(counts)}): weigh them.",
            ("task.class_weights=balanced",),
        )


def _width_rule(now: RunContext) -> Iterator[Advice]:
    if now.model != "mlp":
        return
    inputs, outputs = 1, now.outputs or max(1, len(now.class_counts))
    for size in now.feature_shape:
        inputs *= size
    widths = sorted({(inputs + outputs) // 2, 2 * inputs // 3 + outputs})
    most, least = (max(1, round(now.train_size / (alpha * (inputs + outputs)))) for alpha in (2, 10))
    yield Advice(
        f"Rule of thumb: {' to '.join(map(str, widths))} hidden units by inputs and outputs (notes 000, part 2), "
        f"{least} to {most} by the number of examples (002, 3.5)."
    )


URGENT: dict[str, tuple[Rule, ...]] = {
    "not_learning": (_stuck,),
    "diverging": (_smaller_steps,),
    "collapsed": (_collapsed,),
    "swinging": (_swinging,),
    "bound_missed": (_smaller_model,),
}
INNER: dict[str, tuple[Rule, ...]] = {  # they hold back what is learned from train: with low bias they can wait
    "vanishing": (_vanishing,),
    "exploding": (_exploding,),
    "dead_units": (_dead,),
}
BIAS: tuple[Rule, ...] = (
    _other_start,
    _objects,
    _thaw,
    _larger_model,
    _longer,
    _better_optimizer,
    _plateau,
    _convolution,
)
BIAS += (_less_dropout, _no_penalty, _larger_steps)
VARIANCE: tuple[Rule, ...] = (
    _augment,
    _objects,
    _l2,
    _dropout,
    _convolution,
    _stop_earlier,
    _simpler,
    _larger_batch,
    _plain_descent,
    _more_data,
)
RULES: dict[str, tuple[Rule, ...]] = {"just_right": (_another_seed,), "high_bias": BIAS, "high_variance": VARIANCE}
RULES |= {"no_gap": (_by_eye, _other_ways)}
LAST: dict[str, tuple[Rule, ...]] = {
    "beyond_bayes": (_impossible,),
    "dev_overfit": (_larger_dev,),
    "practice_differs": (_practice,),
    "mismatch": (_like_dev,),
}
THUMB: tuple[Rule, ...] = (_balance_rule, _batch_rule, _images_rule, _width_rule)
