"use strict";
// Draws what the page's data say: charts with hover and zoom, tables that sort, a confusion matrix that opens its pictures, a gallery.
const SVG = document.getElementById("namespace").namespaceURI;
const data = JSON.parse(document.getElementById("data").textContent);
const colour = (i) => `var(--c${i % 10})`;
const clean = (value) => value === null || !Number.isFinite(value) ? "" : Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(+value.toPrecision(4));

function element(name, attributes = {}, ...children) {
  const made = ["svg", "path", "line", "rect", "text", "circle", "g"].includes(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) key.startsWith("on") ? made.addEventListener(key.slice(2), value) : value !== null && value !== false && made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw || 1)), step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw) || power;
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9 && found.length < 50; at += step) found.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return found;
}

function logTicks(low, high) {
  const first = Math.ceil(Math.log10(low)), last = Math.floor(Math.log10(high)), step = Math.max(1, Math.ceil((last - first + 1) / 6)), found = [];
  for (let power = first; power <= last; power += step) found.push(10 ** power);
  return found.length ? found : [low, high];
}

// One chart: lines or points over x. Drag to zoom in, double click to see all again, click a name to hide its line.
class Chart {
  constructor(home, chart) {
    Object.assign(this, { home, chart, hidden: new Set(), zoom: null });
    this.svg = element("svg", { role: "img", "aria-label": chart.title, height: 250 });
    this.tip = element("div", { class: "tip" });
    home.append(element("h3", {}, chart.title), this.svg, this.tip, this.legend());
    if (chart.note) home.append(element("p", { class: "explain" }, chart.note));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerleave", () => { this.tip.style.display = "none"; this.cursor && (this.cursor.style.display = "none"); });
    this.svg.addEventListener("pointerdown", (event) => { this.from = this.x(event); });
    this.svg.addEventListener("pointerup", (event) => this.select(event));
    this.svg.addEventListener("dblclick", () => { this.zoom = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  legend() {
    const named = this.chart.series.map((series, i) => element("button", { type: "button", title: "show or hide", onclick: (event) => {
      this.hidden.has(i) ? this.hidden.delete(i) : this.hidden.add(i);
      event.currentTarget.classList.toggle("off");
      this.draw();
    } }, element("i", { style: `border-color: ${colour(series.colour ?? i)}; ${series.dashed ? "border-top-style: dashed" : ""}` }), series.name));
    if (this.chart.marker) named.push(element("span", {}, `┊ ${this.chart.marker.text}`));
    if (this.chart.band) named.push(element("span", {}, `▒ ${this.chart.band.text}`));
    return element("div", { class: "legend" }, ...named);
  }

  shown() { return this.chart.series.map((series, i) => ({ ...series, i })).filter(({ i }) => !this.hidden.has(i)); }

  draw() {
    const width = this.svg.clientWidth || 320, height = 250, pad = { left: 52, right: 10, top: 8, bottom: this.chart.x ? 38 : 24 };
    const { log_x: logX, log_y: logY } = this.chart, series = this.shown();
    const xs = series.flatMap((each) => each.x), all = this.zoom || [Math.min(...xs), Math.max(...xs)];
    const inside = series.flatMap((each) => [each.y, each.low || [], each.high || []].flatMap((values) => values.filter((y, k) => y !== null && each.x[k] >= all[0] && each.x[k] <= all[1] && (!logY || y > 0))));
    let [low, high] = this.chart.range || [Math.min(...inside), Math.max(...inside)];
    if (!inside.length) [low, high] = [0, 1];
    if (low === high) [low, high] = logY ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
    if (!this.chart.range && !logY) [low, high] = [low - 0.04 * (high - low), high + 0.04 * (high - low)];
    const scale = (log, a, b, from, to) => (value) => { const f = log ? Math.log10 : Number; return from + (to - from) * (f(value) - f(a)) / ((f(b) - f(a)) || 1); };
    const [left, right] = all[0] === all[1] ? [all[0] - 0.5, all[1] + 0.5] : all;
    const sx = scale(logX, left, right, pad.left, width - pad.right), sy = scale(logY, low, high, height - pad.bottom, pad.top);
    Object.assign(this, { sx, sy, pad, width, height, domain: [left, right] });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = [];
    if (this.chart.band) parts.push(element("rect", { x: sx(Math.max(this.chart.band.from, left)), width: Math.max(0, sx(Math.min(this.chart.band.to, right)) - sx(Math.max(this.chart.band.from, left))), y: pad.top, height: height - pad.bottom - pad.top, fill: "var(--soft)", opacity: 0.12 }));
    for (const at of logY ? logTicks(low, high) : ticks(low, high, 5)) parts.push(element("line", { class: "grid", x1: pad.left, x2: width - pad.right, y1: sy(at), y2: sy(at) }), element("text", { x: pad.left - 5, y: sy(at) + 4, "text-anchor": "end" }, clean(at)));
    const { ticks: names } = this.chart, across = names ? names.map((name, k) => k).filter((k) => k >= left && k <= right) : logX ? logTicks(left, right) : ticks(left, right, Math.max(2, width / 90));
    for (const at of across) parts.push(element("line", { class: "axis", x1: sx(at), x2: sx(at), y1: height - pad.bottom, y2: height - pad.bottom + 4 }), element("text", { x: sx(at), y: height - pad.bottom + 16, "text-anchor": "middle" }, names ? names[at] : clean(at)));
    parts.push(element("line", { class: "axis", x1: pad.left, x2: width - pad.right, y1: height - pad.bottom, y2: height - pad.bottom }));
    if (this.chart.x) parts.push(element("text", { x: (pad.left + width - pad.right) / 2, y: height - 6, "text-anchor": "middle" }, this.chart.x));
    if (this.chart.diagonal) parts.push(element("line", { class: "axis", "stroke-dasharray": "4 4", x1: sx(Math.max(left, low)), y1: sy(Math.max(left, low)), x2: sx(Math.min(right, high)), y2: sy(Math.min(right, high)) }));
    if (this.chart.marker && this.chart.marker.x >= left && this.chart.marker.x <= right) parts.push(element("line", { x1: sx(this.chart.marker.x), x2: sx(this.chart.marker.x), y1: pad.top, y2: height - pad.bottom, stroke: "var(--soft)", "stroke-dasharray": "2 3" }));
    for (const each of series.filter(({ low }) => low)) parts.push(this.band(each));
    for (const each of series) parts.push(this.chart.points ? this.points(each) : this.line(each));
    this.cursor = element("line", { y1: pad.top, y2: height - pad.bottom, stroke: "var(--soft)", style: "display: none" });
    this.svg.replaceChildren(...parts, this.cursor);
  }

  visible(series) { return series.x.map((x, k) => [x, series.y[k]]).filter(([x, y]) => y !== null && x >= this.domain[0] && x <= this.domain[1] && (!this.chart.log_y || y > 0)); }

  line(series) {
    const path = this.visible(series).map(([x, y], k) => `${k ? "L" : "M"}${this.sx(x).toFixed(1)} ${this.sy(y).toFixed(1)}`).join("");
    const dots = this.visible(series).length < 2 ? this.points(series) : null;
    return dots || element("path", { d: path, fill: "none", stroke: colour(series.colour ?? series.i), "stroke-width": 1.8, "stroke-dasharray": series.dashed ? "6 4" : null });
  }

  band(series) {
    const shown = series.x.map((x, k) => [x, series.low[k], series.high[k]]).filter(([x, low, high]) => low !== null && high !== null && x >= this.domain[0] && x <= this.domain[1] && (!this.chart.log_y || low > 0));
    const corners = [...shown.map(([x, low]) => [x, low]), ...shown.map(([x, low, high]) => [x, high]).reverse()].map(([x, y]) => `${this.sx(x).toFixed(1)} ${this.sy(y).toFixed(1)}`);
    return element("path", { d: corners.length ? `M${corners.join("L")}Z` : "", fill: colour(series.colour ?? series.i), opacity: 0.15 });
  }

  points(series) { return element("g", {}, ...this.visible(series).map(([x, y]) => element("circle", { cx: this.sx(x).toFixed(1), cy: this.sy(y).toFixed(1), r: 2.4, fill: colour(series.colour ?? series.i), opacity: 0.6 }))); }

  x(event) {
    const at = (event.clientX - this.svg.getBoundingClientRect().left - this.pad.left) / (this.width - this.pad.left - this.pad.right);
    const [a, b] = this.domain;
    return this.chart.log_x ? 10 ** (Math.log10(a) + at * (Math.log10(b) - Math.log10(a))) : a + at * (b - a);
  }

  move(event) {
    const at = this.x(event), lines = [];
    let nearest = null;
    for (const series of this.shown()) {
      let best = -1;
      series.x.forEach((x, k) => { if (series.y[k] !== null && x >= this.domain[0] && x <= this.domain[1] && (best < 0 || Math.abs(x - at) < Math.abs(series.x[best] - at))) best = k; });
      if (best < 0) continue;
      if (nearest === null || Math.abs(series.x[best] - at) < Math.abs(nearest - at)) nearest = series.x[best];
      const label = series.labels ? `${series.labels[best]}: ` : "";
      lines.push(element("div", {}, `${series.name}: ${label}${clean(series.y[best])}${this.chart.points || series.x[best] !== nearest ? ` at ${clean(series.x[best])}` : ""}`));
    }
    if (nearest === null) return;
    this.tip.replaceChildren(element("b", {}, `${this.chart.x || "x"} ${this.chart.ticks ? this.chart.ticks[nearest] : clean(nearest)}`), ...lines);
    Object.assign(this.tip.style, { display: "block", top: "2rem", left: this.sx(nearest) > this.width / 2 ? `${Math.max(0, this.sx(nearest) - 12 - this.tip.offsetWidth)}px` : `${this.sx(nearest) + 12}px` });
    if (this.sx(nearest) > this.width / 2) this.tip.style.left = `${Math.max(0, this.sx(nearest) - 12 - this.tip.offsetWidth)}px`;
    for (const [key, value] of [["x1", this.sx(nearest)], ["x2", this.sx(nearest)]]) this.cursor.setAttribute(key, value);
    this.cursor.style.display = "";
  }

  select(event) {
    const to = this.x(event), [from, end] = [Math.min(this.from, to), Math.max(this.from, to)];
    if (this.sx(end) - this.sx(from) > 8) { this.zoom = [from, end]; this.draw(); }
  }
}

// Bars, each with its text; red ones are above what is tolerated.
function bars(home, chart) {
  const top = Math.max(...chart.bars.map((bar) => bar.value), 1e-12);
  const rows = chart.bars.map((bar) => element("div", { style: "display: grid; grid-template-columns: minmax(0, 9rem) minmax(0, 1fr); gap: .6rem; align-items: center; margin: .25rem 0" },
    element("span", { title: bar.name, style: "overflow: hidden; text-overflow: ellipsis" }, bar.name),
    element("span", { style: "display: flex; align-items: center; gap: .5rem; min-width: 0" },
      element("span", { style: `width: ${Math.max(0.5, 55 * bar.value / top)}%; height: 1.1rem; border-radius: 2px; flex: none; background: ${bar.high ? "var(--bad)" : bar.plain ? "var(--c5)" : "var(--c0)"}` }), element("span", { style: "font-size: .85rem; min-width: 0; overflow-wrap: anywhere" }, bar.text))));
  home.append(element("h3", {}, chart.title), ...rows, chart.note ? element("p", { class: "explain" }, chart.note) : "");
}

function table(home, found) {
  const body = element("tbody");
  const fill = (rows) => body.replaceChildren(...rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", { class: typeof cell === "number" ? "number" : null }, typeof cell === "number" ? clean(cell) : cell ?? "")))));
  const head = found.columns.map((name, k) => element("th", { class: "sort", scope: "col", tabindex: 0, onclick: (event) => {
    const down = !event.currentTarget.classList.contains("down");
    for (const each of head) each.classList.remove("up", "down");
    event.currentTarget.classList.add(down ? "down" : "up");
    fill([...found.rows].sort((a, b) => (typeof a[k] === "number" ? a[k] - b[k] : String(a[k]).localeCompare(String(b[k]))) * (down ? -1 : 1)));
  } }, name));
  fill(found.rows);
  home.append(element("h3", {}, found.title), element("div", { class: "wide" }, element("table", {}, element("thead", {}, element("tr", {}, ...head)), body)), found.note ? element("p", { class: "explain" }, found.note) : "");
}

function matrix(home, found) {
  const sums = found.counts.map((row) => row.reduce((a, b) => a + b, 0)), rows = found.counts.map((row, i) => element("tr", {}, element("th", { scope: "row", title: found.names[i] }, found.names[i]),
    ...row.map((count, j) => {
      const share = sums[i] ? count / sums[i] : 0, style = `background: color-mix(in srgb, ${i === j ? "var(--good)" : "var(--bad)"} ${Math.round(75 * share)}%, var(--paper))`;
      const wrong = i !== j && count > 0 && found.opens;
      const say = `${count} of ${sums[i]} ${found.names[i]} predicted ${found.names[j]}`;
      return element("td", { style, title: say }, count ? element(wrong ? "button" : "span", wrong ? { type: "button", "aria-label": say, onclick: () => gallery.choose(found.names[i], found.names[j]) } : {}, String(count)) : "");
    })));
  home.append(element("h3", {}, found.title), element("div", { class: "wide" }, element("table", { class: "matrix" },
    element("thead", {}, element("tr", {}, element("th", {}, "label \\ predicted"), ...found.names.map((name) => element("th", { scope: "col", title: name }, name)))), element("tbody", {}, ...rows))),
    element("p", { class: "explain" }, found.note));
}

// The mistakes, filtered by label, by what was predicted, and by how sure the network was; of detectors with boxes from a score on.
class Gallery {
  constructor(home) {
    this.figures = [...home.querySelectorAll("figure")];
    this.marks = [...home.querySelectorAll("rect[data-score]")];
    this.score = home.dataset.score === "" ? null : +home.dataset.score;
    const names = (key) => [...new Set(this.figures.map((each) => each.dataset[key]).filter(Boolean))].sort();
    this.selects = Object.fromEntries(["label", "predicted"].map((key) => [key, element("select", { "aria-label": key, onchange: () => this.show() }, element("option", { value: "" }, "all"), ...names(key).map((name) => element("option", {}, name)))]));
    this.sure = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "confidence", oninput: () => this.show() });
    this.boxes = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: this.score ?? 0, "aria-label": "score", oninput: () => { this.score = +this.boxes.value; this.show(); } });
    this.count = element("span", { class: "note", role: "status" });
    const filters = [];
    if (names("label").length) filters.push(element("label", {}, "label", this.selects.label), element("label", {}, "predicted", this.selects.predicted));
    if (this.figures.some((each) => each.dataset.score)) filters.push(element("label", {}, "confidence from", this.sure));
    if (this.score !== null) filters.push(element("label", {}, "boxes from score", this.boxes, this.value = element("output")));
    home.prepend(element("div", { class: "filters" }, ...filters, this.count));
    this.show();
  }

  choose(label, predicted) {
    for (const [key, value] of [["label", label], ["predicted", predicted]]) {
      const select = this.selects[key];
      select.value = [...select.options].some((option) => option.text === value) ? value : "";
    }
    this.sure.value = 0;
    this.show();
    const section = document.getElementById("mistakes");
    section.open = true;
    section.scrollIntoView({ behavior: "smooth" });
  }

  show() {
    const { label, predicted } = this.selects;
    for (const each of this.figures) each.hidden = Boolean((label.value && each.dataset.label !== label.value) || (predicted.value && each.dataset.predicted !== predicted.value) || (each.dataset.score && +each.dataset.score < +this.sure.value));
    for (const mark of this.marks) mark.toggleAttribute("hidden", +mark.dataset.score < this.score);
    this.count.textContent = `${this.figures.filter((each) => !each.hidden).length} of ${this.figures.length} shown`;
    if (this.value) this.value.textContent = this.score.toFixed(2);
  }
}

function draw(home, part) {
  const own = element("div", { class: "chart" });
  home.append(own);
  ({ lines: () => new Chart(own, part), bars: () => bars(own, part), table: () => table(own, part), matrix: () => matrix(own, part) })[part.kind]();
}

let gallery = null;
for (const home of document.querySelectorAll("[data-parts]")) for (const part of data.parts[home.dataset.parts] || []) draw(home, part);
const shelf = document.getElementById("gallery");
if (shelf) gallery = new Gallery(shelf);
for (const button of document.querySelectorAll("[data-split]")) button.addEventListener("click", () => {
  for (const each of document.querySelectorAll("[data-split]")) each.setAttribute("aria-pressed", each.dataset.split === button.dataset.split);
  for (const each of document.querySelectorAll("[data-of]")) each.hidden = each.dataset.of !== button.dataset.split;
});
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
