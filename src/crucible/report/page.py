"""One self-contained page: no link leaves it, and it can be mailed."""

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Template

from crucible.report.screen import (
    amount,
    baseline,
    bounds,
    classes,
    error_name,
    gap,
    judged,
    result,
    sampling,
    seen,
    suggested,
    verdict,
)
from crucible.text import steady

TEMPLATE = Template(
    """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a202c }
 h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem } img { max-width: 100% }
 table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #e2e8f0 }
 th:first-child, td:first-child { text-align: left } code, pre { background: #f7fafc; padding: .1rem .3rem }
 pre { padding: .6rem; overflow: auto; font-size: .8rem } .verdict { font-weight: 600 }
</style>
<h1>{{ title }}</h1>
<p>{{ result }}</p><p>{{ gap }}</p>
<p class="verdict">Verdict: {{ verdict }}</p>
{% if curves %}<p>Curves: {{ curves }}.</p>{% endif %}
{% for each in notes %}<p>{{ each }}</p>{% endfor %}
<ul>{% for each in advice %}<li>{{ each.why }}{% if each.command %}<br><code>{{ each.command }}</code>{% endif %}</li>{% endfor %}</ul>
<p>{{ looks }}</p>
<table><tr><th></th>{% for name in names %}<th>{{ name }}</th>{% endfor %}</tr>
{% for split, scores in splits %}<tr><td>{{ split }}</td>{% for name in names %}<td>{{ "%.4f"|format(scores[name]) }}</td>
{% endfor %}</tr>{% endfor %}</table>
<p>{{ parameters }} parameters; {{ "%.3f"|format(latency) }} ms for one example alone.</p>
{% if ceiling %}<h2>Error analysis: what each kind of mistake costs</h2>
<p>On {{ analysed }}; if one kind were fixed, the {{ error_name }} would be as in the last column.</p>
<table><tr><th>label</th><th>predicted</th><th>count</th><th>share of the error</th><th>{{ error_name }} if fixed</th></tr>
{% for row in ceiling %}<tr><td>{{ row.label }}</td><td>{{ row.predicted }}</td><td>{{ row.count }}</td>
<td>{{ "%.1f"|format(100 * row.share) }} %</td><td>{{ row.left }}</td></tr>
{% endfor %}</table>{% endif %}
{% for heading, picture in pictures %}<h2>{{ heading }}</h2><img alt="{{ heading }}" src="data:image/png;base64,{{ picture }}">
{% endfor %}
<h2>Configuration</h2><pre>{{ config }}</pre>
<h2>Data card</h2><pre>{{ card }}</pre>
</html>
""",
    autoescape=True,
    finalize=steady,
)


def page(summary: dict[str, Any], card: dict[str, Any], config: str, looks: str, figures: dict[str, Path]) -> str:
    """Return the page.

    Args:
        summary: a metrics.json. card: a card.json. config: the configuration's text.
        looks: how often the test split has been looked at. figures: heading -> picture.
    """
    splits, diagnosis, signs = list(judged(summary).items()), summary["diagnosis"], summary["diagnosis"]["signs"]
    dead = {layer: share for layer, share in signs["dead_units"].items() if share > 0}
    about = (sampling(summary), baseline(summary), seen(diagnosis.get("seen", {})), suggested(summary))
    notes = [*filter(None, about), *classes(summary), *bounds(diagnosis), *signs["flow"]]
    notes += [f"{100 * share:.0f} % of the units of {layer} fire for no train example" for layer, share in dead.items()]
    notes += [f"control after epoch {each['epoch']}: {each['change']}" for each in diagnosis["controls"]]
    notes += [
        f"{pair}: {'different distributions' if each['differs'] else 'no sign of different distributions'} "
        f"(p = {each['features']:.3f} features, {each['labels']:.3f} labels)"
        for pair, each in signs["shifts"].items()
    ]
    return TEMPLATE.render(
        title=f"{summary['data']}, {summary['model']}: {error_name(summary)} {amount(summary['test']['error'], summary)} on test",
        result=result(summary),
        gap=gap(summary),
        verdict=verdict(diagnosis),
        curves=signs["curves"],
        notes=notes,
        analysed=next(split for split in ("dev", "train_dev", "train") if summary.get(split)),
        error_name=error_name(summary),
        ceiling=[{**row, "left": amount(row["error_if_mended"], summary)} for row in diagnosis["error_analysis"]],
        advice=diagnosis["advice"],
        looks=looks,
        names=[n for n, v in splits[0][1].items() if isinstance(v, float) and all(n in scores for _, scores in splits)],
        splits=splits,
        parameters=f"{summary['parameters']:,}",
        latency=summary["latency_ms_per_example"],
        pictures=[(heading, base64.b64encode(path.read_bytes()).decode()) for heading, path in figures.items()],
        config=config,
        card=json.dumps(card, indent=1, ensure_ascii=False),
    )
