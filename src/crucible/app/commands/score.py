"""How likely is a text to a language model: python src/score.py run=latest "the apple and pear salad" "the apple and pair salad"."""

import json
import shlex
from math import exp, log
from pathlib import Path
from typing import Any, cast

import torch

from crucible.app.arguments import one_of, read_arguments
from crucible.app.unfinished import usable_run
from crucible.data.text import END, UNKNOWN
from crucible.errors import Refusal, printable
from crucible.inference.language import cut, nats_of, symbols_of
from crucible.inference.saved_run import Saved, load_run
from crucible.labels.texts import Texts
from crucible.report.screen import lined
from crucible.tasks.language import Language

KEYS = {"run": "latest", "ends": "false", "format": "table"}
EXAMPLE = 'python src/score.py run=latest "the apple and pear salad" "the apple and pair salad"'


def main(words: list[str]) -> None:
    """Print the probability of each text, which is the product of those of its tokens; of several, which is likelier and how much.

    ends=true: the text ends there, <EOS> among the tokens.
    """
    given = read_arguments([word for word in words if _is_key(word)], KEYS, example=EXAMPLE)
    texts = [word for word in words if not _is_key(word)]
    ends = one_of("ends", given["ends"], ("true", "false")) == "true"
    one_of("format", given["format"], ("table", "json"))
    folder = usable_run(given["run"])
    saved = language_model(folder)
    if cast(Language, saved.task).answers:
        raise Refusal(f"run={folder}", "it answers what it reads, and judges no text", allowed="src/sample.py",
                      example='python src/sample.py run=latest prefix="3 May 1979"')  # fmt: skip
    if ends and END not in (saved.card.columns or []):
        raise Refusal("ends=true", "this run was trained on one long text, which has no <EOS>", allowed="false")
    rows = [_scored(saved, text, ends=ends) for text in _with_tokens(texts, saved)]
    if given["format"] == "json":
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        print(_in_words(row))
    likeliest = max(rows, key=lambda row: row["log_probability"])
    print(lined([("result", _compared(rows, likeliest)), ("note", _unknown(rows)), ("files", str(folder)),
                 ("next", f"python src/sample.py run={shlex.quote(given['run'])} prefix={shlex.quote(likeliest['text'][:20])}")]))  # fmt: skip


def _is_key(word: str) -> bool:
    return word.partition("=")[0] in KEYS and "=" in word


def language_model(folder: Path) -> Saved:
    """Return a run that tells the next token.

    Raises:
        Refusal: it does something else.
    """
    saved = load_run(folder, torch.device("cpu"))
    if not isinstance(saved.task.kind, Texts):
        raise Refusal(f"run={folder}", "it is no language model", allowed="a run of task=language",
                      example="python src/train.py experiment=language")  # fmt: skip
    return saved


def _with_tokens(texts: list[str], saved: Saved) -> list[str]:
    """Refuse no text at all, and one without a token."""
    if not texts or (empty := next((text for text in texts if not len(cut(text, saved.card))), None)) is not None:
        raise Refusal(
            "TEXT",
            f"there is no token in {empty!r}" if texts else "is missing",
            allowed="texts, in quotes",
            example=EXAMPLE,
        )
    return texts


def _scored(saved: Saved, text: str, *, ends: bool) -> dict[str, Any]:
    pairs = nats_of(saved, text, ends=ends)
    total, first = sum(nats for _, nats in pairs), symbols_of([token for token, _ in pairs], saved.card)
    return {"text": text, "log_probability": -total, "nats_per_token": total / len(pairs), "perplexity": exp(min(700.0, total / len(pairs))),
            "unknown": [token for (token, _), symbol in zip(pairs, first, strict=True) if symbol == 0 and token != UNKNOWN],
            "tokens": [[token, -nats] for token, nats in pairs]}  # fmt: skip


def power_of_ten(log_probability: float) -> str:
    """Return e^x as a person writes it, 3.2e-13, however small."""
    exponent = int(log_probability // log(10))
    return f"{exp(log_probability - exponent * log(10)):.1f}e{exponent:+03d}"


def _in_words(row: dict[str, Any]) -> str:
    count = len(row["tokens"])
    numbers = f"P = {power_of_ten(row['log_probability'])}  {row['nats_per_token']:.4f} nats a token of {count}, perplexity {row['perplexity']:.2f}"
    return f"  {printable(row['text'])}\n      {numbers}"


def _compared(rows: list[dict[str, Any]], likeliest: dict[str, Any]) -> str:
    if len(rows) == 1:
        return f"P = {power_of_ten(likeliest['log_probability'])}"
    second = sorted(row["log_probability"] for row in rows)[-2]
    times = likeliest["log_probability"] - second
    if times == 0:
        return "the likeliest texts are equally likely"
    return f"the likeliest is {likeliest['text']!r}: {power_of_ten(times)} times as likely as the next"


def _unknown(rows: list[dict[str, Any]]) -> str:
    unknown = sorted({token for row in rows for token in row["unknown"]})
    return f"not in the vocabulary, and taken for <UNK>: {', '.join(map(repr, unknown[:10]))}" if unknown else ""
