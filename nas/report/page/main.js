// What the reader is looking at, and who draws it.

const PARTS = [["front", "Front"], ["networks", "Networks"], ["lines", "Choices"], ["search", "Search"], ["telling", "What decides"], ["devices", "Devices"]];

/** What is looked at; `set` changes it and draws what depends on it. */
const view = {
  device: study.devices[0].name, x: "", y: "", selected: null, dominated: true, over: "evaluations", everyNetwork: false, choices: false,
  pick: { limits: {}, prefer: "", sure: false }, filters: new Map(),
  decisions: new Set(differing.slice(0, FIRST_DECISIONS).map(({ name }) => name)),
  keeps(row) { return keeps(row, this); },
  set(change, { keepLines = false } = {}) {
    const moved = change.device !== undefined && change.device !== this.device;
    Object.assign(this, change);
    if (moved) settle(this);
    if (moved) drawPick(this);
    drawFront(this);
    drawNetworks(this);
    drawLinesControls(this);
    if (keepLines) drawPaths(this);
    else drawLines(this);
    drawCurve(this);
    drawDevices(this);
  },
};

/** Brings axes and filters to what the device has: its score up, its first cost across. */
function settle(looked) {
  const { objectives, front } = devices.get(looked.device);
  const known = axisOptions(looked).map(([name]) => name);
  if (!known.includes(looked.y)) looked.y = objectives[0];
  if (!known.includes(looked.x)) looked.x = objectives[1] ?? known.find((name) => name !== looked.y) ?? objectives[0];
  looked.filters.clear();
  if (looked.selected === null && front.length) looked.selected = devices.get(looked.device).order.knee[0];
}

function drawFront(looked) {
  drawFrontControls(looked);
  drawLegend(looked);
  drawFrontPlot(looked);
  drawFrontTable(looked);
  drawSelected(looked);
}

function drawHead() {
  const { study: asked, counts } = study;
  const limits = asked.constraints.length ? `, with ${asked.constraints.join(" and ")}` : "";
  byId("asked").textContent = `${asked.space}${asked.network ? ` of ${asked.network}` : ""} on ${asked.data} at ${asked.input.slice(1).join("×")} pixels, for ${asked.device}${limits}`;
  const { front, order, objectives } = devices.get(view.device);
  const over = Object.values(counts).reduce((sum, count) => sum + count, 0) - counts.running;
  const best = objectives.filter((name) => front.length && order[name])
    .map((name) => [`best ${nameOf(name)}`, ...figure(order[name][0], name)]);
  const facts = [["networks tried", String(over), counts.running ? `and ${counts.running} under way` : `of ${asked.trials}`],
    ["on the front", String(front.length), ""], ...best, ["time", duration(asked.seconds), ""]];
  byId("facts").replaceChildren(...facts.map(([name, text, note]) =>
    html("div", {}, html("dt", {}, name), html("dd", {}, text, note ? html("small", {}, note) : null))));
}

/** A number of a trial as a fact: the value with its unit, and its half width. */
function figure(row, name) {
  const number = numberOf(row, name, view.device), spread = (number.high - number.low) / 2;
  return [short(number, unitOf(name)), spread > 0 ? `±${spread.toFixed(decimals(spread))}` : ""];
}

function drawFoot() {
  const device = devices.get(view.device), { study: asked } = study;
  const sentences = [
    `${asked.strategy}, promotion ${asked.promotion}, seed ${asked.seed}, at most ${asked.epochs} epoch${asked.epochs === 1 ? "" : "s"} of ${Math.round(100 * asked.share)} % of the training images.`,
    `Numbers of ${device.name}: ${[...device.bases, ...device.runtimes].join(", ")}.`,
    "The accuracy is of images that the search never ranked on; the membership is the probability that a point belongs to the front, given the doubt of all numbers.",
    ...study.missing.map((text) => `${text}.`), study.made];
  byId("foot").replaceChildren(...sentences.map((text) => html("p", {}, text)));
}

settle(view);
drawHead();
drawPick(view);
drawFoot();
drawBudget();
drawImportance();
view.set({});
byId("contents").append(...PARTS.filter(([id]) => !byId(id).hidden).map(([id, name]) => html("a", { href: `#${id}` }, name)));
byId("pick").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });
document.addEventListener("scroll", hush, { passive: true });
whenResized(byId("front-plot"), () => drawFrontPlot(view));
whenResized(byId("lines-plot"), () => drawPaths(view));
whenResized(byId("curve-plot"), () => drawCurve(view));
whenResized(byId("correlations-plot"), drawCorrelations);
whenResized(byId("devices-plots"), () => drawDevices(view));
document.documentElement.dataset.drawn = "yes";
