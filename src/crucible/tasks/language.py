"""A language model: the probability of each token after those before it (notes 000, part 13, section 3)."""

from itertools import islice
from textwrap import wrap
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.data.text import END, END_NUMBER, joined
from crucible.errors import Refusal
from crucible.labels.texts import Texts
from crucible.losses import cross_entropies, precise
from crucible.metrics.text import LanguageMetrics
from crucible.models.encoder_decoder import EncoderDecoder
from crucible.plots import pixels
from crucible.tasks.steps import padding, reading, written
from crucible.tasks.task import MonitoredTask, Monitoring

LENGTH, TEXTS, WIDTH, SIZE, SKETCHED = (
    120,
    4,
    32,
    (250, 76),
    0.7,
)  # of a sketch: tokens, texts, characters a line, pixels, temperature
Score = Literal["loss", "perplexity", "bits_per_token", "error"]


class Language(MonitoredTask):
    """x<1> = 0, x<t> = y<t-1>; softmax over the vocabulary at each step; the loss is the mean of -ln p over all tokens.

    The notes' loss is a sum over t; a mean over tokens has the same direction and a scale that no length changes. Where batches
    are windows of one text that follow each other (data.sampling=streams), the state is carried from one to the next and
    back-propagation ends at its edge (truncated back-propagation through time).

    Args:
        card: tells the vocabulary. of: `text`: every token counts; `answer`: those after the first <EOS> alone, told from what stands
            before it. settings: see Monitoring.

    Raises:
        Refusal: a goal against the metric, or a network that sees the token that it is to tell.
    """

    kind = Texts()
    metrics_class = LanguageMetrics
    usual = "loss task.goal=minimize"
    confusion_labels = ("told", "not told")

    def __init__(
        self, card: Card, *, of: Literal["text", "answer"] = "text", **settings: Unpack[Monitoring[Score]]
    ) -> None:
        super().__init__(card, **settings)
        if card.recipe.get("reader", {}).get("affixes"):
            raise Refusal("data.reader.affixes", "a token that is known by several parts cannot be told by one", allowed="0",
                          example="data.reader.affixes=0")  # fmt: skip
        if of == "answer" and not (card.lengths or {}).get("answers"):
            raise Refusal("task.of=answer", "these texts are no pairs of what is read and what is answered", allowed="text; or data=dates",
                          example="python src/train.py data=dates model=encoder_decoder task=language task.of=answer")  # fmt: skip
        self.num_outputs, self.answers = card.feature_shape[-1], of == "answer"
        self._names, self._unit = card.columns or [], card.recipe.get("reader", {}).get("unit", "space")
        self._entropy = None if self.answers else (card.lengths or {}).get("entropy")

    def attach(self, model: nn.Module) -> nn.Module:
        """Return the network, told that each step's output is about the step itself, from those before it."""
        if isinstance(model, EncoderDecoder) and not self.answers:
            raise Refusal("model=encoder_decoder", "it tells what comes after the first <EOS>, not the text before it", allowed="task.of=answer",
                          example="python src/train.py data=dates model=encoder_decoder task=language task.of=answer")  # fmt: skip
        return reading(model, "next", "language")

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch with `x` (B, L), `mask` (B, L) and perhaps `follows` (B,); and its share of padding."""
        reading(model, "next", "language").follow(batch.get("follows"))
        outputs = model(batch["x"])
        return {
            "loss": self.nats(outputs, batch).sum() / self.counted(batch).sum().clamp(min=1),
            "padding/share": padding(batch),
        }

    def counted(self, batch: Batch) -> Tensor:
        """Return which tokens (B, L) of a batch are to be told."""
        if not self.answers:
            return batch["mask"]
        before = (batch["x"] == END_NUMBER).cumsum(dim=1) - (batch["x"] == END_NUMBER).long()
        return batch["mask"] & (before > 0)

    def weight(self, batch: Batch) -> Tensor:
        """Return the number () of tokens that count."""
        return self.counted(batch).sum()

    def nats(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return -ln p (B, L) of the tokens of a batch, 0 where none counts, from logits (B, L, V)."""
        target = torch.where(self.counted(batch), batch["x"], -100)
        return cross_entropies(outputs, target)

    def sketch(self, model: nn.Module, batch: Batch) -> Tensor | None:
        """Return a picture of what the model writes, always from the same random numbers; of answers nothing."""
        if self.answers:
            return None
        network, texts = reading(model, "next", "language").eval(), TEXTS if END in self._names else 1
        drawn = (written(network, self._names, [], temperature=SKETCHED, seed=seed) for seed in range(texts))
        shown = [joined(list(islice(tokens, LENGTH // texts)), self._unit).replace("\n", " / ") for tokens in drawn]
        return pixels.written([line for text in shown for line in wrap(text, WIDTH)], SIZE)

    def chance_loss(self, counts: list[int]) -> float | None:
        """Return the nats a token of guessing by the frequencies of train alone."""
        return self._entropy

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the likeliest token (B, L) at each step."""
        return outputs.argmax(dim=2)

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return ln p (B, L, V) of each token at each step."""
        return precise(outputs).log_softmax(dim=2)

    def within(self, found: Tensor, batch: Batch) -> Tensor:
        """Return the tokens and their -ln p (B, L, 2), NaN in the padding."""
        nats = -found.gather(2, batch["x"].clamp(min=0)[..., None])
        pairs = torch.cat([batch["x"][..., None].to(nats.dtype), nats], dim=2)
        return torch.where(self.counted(batch)[..., None], pairs, torch.nan)

    def metrics(self) -> LanguageMetrics:
        """Return empty sums."""
        return LanguageMetrics(self.nats, self.counted)
