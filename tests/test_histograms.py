"""How weights and activations are spread: against numpy, and the notes' claims about the start (002, 6.3) and about L1."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crucible.initializers import he, normal, xavier
from crucible.models.mlp import MLP
from crucible.training.histograms import BINS, _facts, spread

LATEST = Path("outputs/latest")
QUICK = ("tracking=none", "trainer.threads=1")


def five_layers(activation: str, start) -> dict:
    """The notes' experiment: 1,000 examples... of 100 normal numbers, five layers of 100 units."""
    torch.manual_seed(0)
    model = MLP((100,), 10, layers=[100] * 5, activation=activation, keep_prob=1.0, batch_norm=False)
    start(model)
    return spread(model, {"x": torch.randn(64, 100)})


def test_histogram_norm_and_shares_are_numpys() -> None:
    torch.manual_seed(0)
    model = MLP((6,), 3, layers=[5], activation="tanh", keep_prob=1.0, batch_norm=False)
    x = torch.randn(50, 6)
    found = spread(model, {"x": x})
    w = model.hidden.linear0.weight.detach().numpy()
    own = found["weights"]["hidden.linear0"]
    assert own["norm"] == pytest.approx(np.linalg.norm(w), rel=1e-6)
    assert (own["mean"], own["deviation"]) == pytest.approx((w.mean(), w.std()), abs=1e-6)
    assert own["near_zero"] == (np.abs(w) < 1e-3).mean()
    counts, edges = np.histogram(w, BINS)
    assert (own["low"], own["high"]) == pytest.approx((edges[0], edges[-1]))
    assert np.allclose(own["shares"], counts / w.size, atol=1.01 / w.size) and sum(own["shares"]) == pytest.approx(
        1, abs=1e-4
    )
    z = np.tanh(x.numpy() @ w.T + model.hidden.linear0.bias.detach().numpy())
    given = found["activations"]["hidden.activation0"]
    assert (given["mean"], given["deviation"]) == pytest.approx((z.mean(), z.std()), abs=1e-6)
    assert model.training and list(found["activations"]) == ["hidden.activation0"]


def test_of_what_overflowed_the_finite_values_are_counted() -> None:
    found = _facts(torch.tensor([1.0, torch.inf, 3.0, torch.nan]))
    assert (found["low"], found["high"], found["mean"], sum(found["shares"])) == (1, 3, 2, 1)
    assert _facts(torch.full((4,), torch.nan))["mean"] == 0 and _facts(torch.tensor([1e30, -1e30]))["deviation"] > 9e29


def test_a_start_that_explodes_stops_as_training_says(command) -> None:
    done = command(
        "train",
        "init=normal",
        "init.std=1e10",
        "model.layers=[100,100,100,100,100]",
        "trainer.total_epochs=1",
        "tracking=none",
    )
    assert done.code == 2 and "is not finite" in done.err and "Traceback" not in done.err, done.err


def test_a_deviation_of_1_drives_sigmoids_to_their_ends_001_makes_all_alike_and_xavier_spreads_them() -> None:
    def at_the_ends(found) -> float:
        own = found["activations"]["hidden.activation4"]
        middles = own["low"] + (np.arange(BINS) + 0.5) * (own["high"] - own["low"]) / BINS
        return float(np.array(own["shares"])[(middles < 0.05) | (middles > 0.95)].sum())

    wide, narrow, good = (five_layers("sigmoid", start) for start in (normal(std=1.0), normal(std=0.01), xavier()))
    assert at_the_ends(wide) > 0.4 and at_the_ends(narrow) == at_the_ends(good) == 0
    last = {name: found["activations"]["hidden.activation4"] for name, found in (("narrow", narrow), ("good", good))}
    assert last["narrow"]["deviation"] < 0.02 and last["narrow"]["mean"] == pytest.approx(0.5, abs=0.05)
    assert last["good"]["deviation"] > 5 * last["narrow"]["deviation"]


def test_of_relu_xavier_fades_and_he_keeps_the_scale() -> None:
    fading, kept = (five_layers("relu", start)["activations"] for start in (xavier(), he()))
    ratio = [
        found["hidden.activation4"]["deviation"] / found["hidden.activation0"]["deviation"] for found in (fading, kept)
    ]
    assert ratio[0] == pytest.approx(0.5**2, rel=0.35)  # each ReLU halves the mean square, over four layers
    assert 0.6 < ratio[1] < 1.7


def test_a_run_keeps_both_moments_and_l1_makes_weights_vanish(command) -> None:
    words = ("model.layers=[16]", "trainer.total_epochs=25", *QUICK)
    shares = {}
    for name in ("none", "l2", "l1"):
        assert (
            command(
                "train",
                *words,
                f"regularizer={name}",
                *((f"regularizer.strength={2 if name == 'l1' else 20}",) if name != "none" else ()),
            ).code
            == 0
        )
        found = json.loads((LATEST / "histograms.json").read_text())
        shares[name] = found["end"]["weights"]["hidden.linear0"]["near_zero"]
        kept = load_file(LATEST / "weights.safetensors")["hidden.linear0.weight"].numpy()
        assert found["end"]["weights"]["hidden.linear0"]["norm"] == pytest.approx(np.linalg.norm(kept), rel=1e-5)
        assert found["start"]["weights"]["hidden.linear0"]["norm"] != found["end"]["weights"]["hidden.linear0"]["norm"]
    assert shares["l1"] > 2 * max(shares["none"], shares["l2"])


def test_the_report_draws_weights_and_activations_and_a_run_of_before_has_none(command) -> None:
    assert command("train", "trainer.total_epochs=1", *QUICK).code == 0
    assert command("evaluate", "run=latest").code == 0
    page = (LATEST / "report.html").read_text()
    data = json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    titles = [part["title"] for part in data["parts"]["spreads"]]
    assert titles == ["Weights of hidden.linear0", "Weights of hidden.linear1", "Weights of head", "Activations of hidden.activation0",
                      "Activations of hidden.activation1", "Weights, layer by layer", "What the activation functions give"]  # fmt: skip
    (LATEST / "histograms.json").unlink()
    assert command("evaluate", "run=latest").code == 0
    assert 'id="spreads"' not in (LATEST / "report.html").read_text()
