// What every figure is made of: elements, scales, axes, the tooltip, and drawing anew when resized.

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

function made(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const html = (tag, attributes = {}, ...children) => made(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => made(document.createElementNS(SVG, tag), attributes, children);

/** A term list of `[name, content]`. */
const pairs = (list, kind = "pairs") =>
  html("dl", { class: kind }, list.map(([name, content]) => [html("dt", {}, name), html("dd", {}, ...[content].flat())]));

/** A labelled choice among `[value, text]`. */
function select(text, options, value, changed) {
  const box = html("select", { onchange: () => changed(box.value) },
    options.map(([name, shown]) => html("option", { value: name, selected: name === value ? "" : null }, shown)));
  return html("label", {}, html("span", {}, text), box);
}

/** A row of buttons of which one is pressed. */
function switcher(text, options, value, changed) {
  return html("div", { class: "switch", role: "group", "aria-label": text },
    options.map(([name, shown]) =>
      html("button", { type: "button", "aria-pressed": String(name === value), onclick: () => changed(name) }, shown)));
}

/** A straight or logarithmic way from `low..high` to `from..to` pixels. */
function scale(low, high, from, to, log = false) {
  const bent = log ? Math.log : (value) => value;
  const span = bent(high) - bent(low) || 1;
  const at = (value) => from + ((bent(value) - bent(low)) / span) * (to - from);
  return { low, high, from, to, log, at, ticks: () => ticks(low, high, log, Math.abs(to - from)) };
}

/** Round values within a range, as many as there is room for. */
function ticks(low, high, log, pixels) {
  const most = Math.max(2, Math.min(8, Math.floor(pixels / 60)));
  if (log) {
    for (const steps of [[1, 2, 5], [1, 3], [1]]) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
        found.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(12))));
      }
      const inside = found.filter((value) => value >= low && value <= high);
      if (inside.length >= 2 && inside.length <= most) return inside;
    }
  }
  const raw = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(raw));
  const steps = [0.5, 1, 2, 5, 10].map((size) => size * power);
  const place = steps.findIndex((step) => step >= raw * (1 - 1e-9));
  const even = multiples(low, high, steps[place]);
  return even.length > 2 ? even : multiples(low, high, steps[Math.max(0, place - 1)]);
}

/** The multiples of a step within a range. */
function multiples(low, high, step) {
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/**
 * The stretch of a quantity to show: the front whole, other points as far as they are at most one
 * and a half ranges worse, so that a network that learned nothing does not press it to the border.
 * With `whole` all points are inside, as where the front is not for this quantity.
 */
function extent(front, others, { unit, goal }, whole = false) {
  const values = front.map((number) => number.value);
  const every = [...values, ...others.map((number) => number.value)];
  if (!values.length) values.push(...every);
  let low = Math.min(...values), high = Math.max(...values);
  const log = low > 0 && Math.max(...every) / low > 12 && unit !== "%";
  const bent = log ? Math.log : (value) => value, back = log ? Math.exp : (value) => value;
  [low, high] = [bent(low), bent(high)];
  const reach = high - low || (log ? 1 : 0.1 * Math.abs(high) || 1);
  const ends = front.flatMap((number) => [number.low, number.high]).filter((end) => !log || end > 0).map(bent);
  let bottom = Math.max(Math.min(low, ...ends), low - reach / 2);
  let top = Math.min(Math.max(high, ...ends), high + reach / 2);
  for (const value of others.map((number) => bent(number.value))) {
    if (whole || (goal === "minimize" && value <= high + 1.5 * reach)) top = Math.max(top, value);
    if (whole || (goal === "maximize" && value >= low - 1.5 * reach)) bottom = Math.min(bottom, value);
  }
  const margin = 0.06 * (top - bottom || reach);
  return { low: back(bottom - margin), high: unit === "%" ? Math.min(back(top + margin), 100.5) : back(top + margin), log };
}

/** Grid, numbers and names of two axes; `x.name` and `y.name` are written at their ends. */
function axes(x, y) {
  const bottom = y.from, left = x.from, right = x.to, top = y.to;
  const across = x.scale.ticks().map((value) => [
    svg("line", { class: "grid", x1: x.scale.at(value), x2: x.scale.at(value), y1: top, y2: bottom }),
    svg("text", { x: x.scale.at(value), y: bottom + 18, "text-anchor": "middle" }, plain(value))]);
  const up = y.scale.ticks().map((value) => [
    svg("line", { class: "grid", x1: left, x2: right, y1: y.scale.at(value), y2: y.scale.at(value) }),
    svg("text", { x: left - 8, y: y.scale.at(value) + 4, "text-anchor": "end" }, plain(value))]);
  return svg("g", { "aria-hidden": "true" }, across, up,
    svg("text", { class: "name", x: right, y: bottom + 38, "text-anchor": "end" }, x.name),
    svg("text", { class: "name", x: 0, y: top - 12 }, y.name));
}

/** A name, its unit and which way is better: `latency (ms), lower is better`. */
function axisName(quantity) {
  const { label, unit, goal } = quantities.get(quantity);
  return `${unit ? `${label} (${unit})` : label}, ${goal === "minimize" ? "lower" : "higher"} is better`;
}

/** The shape of a membership: a disc, a square, a triangle; a shape for every eye. */
function mark(verdict, x, y, size = 6) {
  if (verdict === "certain") return svg("circle", { class: "mark", cx: x, cy: y, r: size });
  if (verdict === "likely") {
    return svg("rect", { class: "mark", x: x - size, y: y - size, width: 2 * size, height: 2 * size });
  }
  const corners = [[0, -1.2], [1.15, 0.85], [-1.15, 0.85]];
  return svg("polygon", { class: "mark", points: corners.map(([a, b]) => `${x + size * a},${y + size * b}`).join(" ") });
}

/** A membership in a word, with its shape. */
const badge = ({ verdict, membership }) => html("span", { class: `badge ${verdict}` },
  svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, mark(verdict, 8, 8, 5.5)), `${verdict} ${percent(membership)}`);

/** Shows what is pointed at beside the pointer, or above a focused element. */
function tell(content, x, y) {
  const tip = byId("tip");
  tip.replaceChildren(content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 14 + width > innerWidth - 8 ? x - 14 - width : x + 14;
  tip.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(8, Math.min(y - height / 2, innerHeight - height - 8))}px`;
}

const hush = () => { byId("tip").hidden = true; };

/** Draws at once, and again whenever the width of the place changes. */
function whenResized(place, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (Math.round(place.clientWidth) === width) return;
    width = Math.round(place.clientWidth);
    draw();
  }).observe(place);
}
