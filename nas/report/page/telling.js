// What decides who reaches the front, and what ranks networks before they are trained to the end.

const LISTED = 12;

function drawImportance() {
  const { importance } = study, note = byId("importance-note");
  if (typeof importance === "string" || !importance.rows.length) {
    byId("importance-plot").replaceChildren();
    note.textContent = typeof importance === "string" ? importance : "Too few networks, or none better than another, to tell.";
    return;
  }
  const shown = importance.rows.filter(({ share }) => share >= 0.01).slice(0, LISTED);
  const most = Math.max(...shown.map(({ share }) => share));
  byId("importance-plot").replaceChildren(html("div", { class: "bars" }, shown.map(({ decision, share, active }) => [
    html("span", {}, decision),
    html("span", { class: "bar-track", "aria-hidden": "true" }, html("i", { style: { width: `${(100 * share) / most}%` } })),
    html("span", { class: "figure" }, percent(share), active < importance.networks ? `, in ${active}` : "")])));
  const rest = importance.rows.length - shown.length;
  note.textContent = `How much the networks of the front differ from all ${importance.networks}, one decision at a time (PED-ANOVA).${rest ? ` ${rest} more matter less.` : ""}`;
}

function drawCorrelations() {
  const { correlations } = study, place = byId("correlations-plot"), width = place.clientWidth;
  if (!width) return;
  const known = typeof correlations === "string" ? [] : correlations.rows.filter(({ tau }) => tau !== null);
  if (!known.length) {
    place.replaceChildren();
    byId("correlations-note").textContent = typeof correlations === "string" ? correlations : "Too few networks were trained to the end to tell.";
    return;
  }
  const kinds = ["size", "proxy", "rung"];
  const ordered = [...known].sort((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind) || b.tau - a.tau);
  const step = 26, top = 10, left = Math.min(150, width * 0.36), height = top + step * ordered.length + 40;
  const x = scale(-1, 1, left + 10, width - RIGHT);
  const told = (name, row) => `${name} ${row.tau >= 0 ? "+" : ""}${row.tau.toFixed(2)} [${row.low.toFixed(2)}, ${row.high.toFixed(2)}]`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img",
    "aria-label": ordered.map((row) => told(row.name, row)).join("; ") },
  [-1, -0.5, 0, 0.5, 1].map((value) => [
    svg("line", { class: "grid", x1: x.at(value), x2: x.at(value), y1: top, y2: height - 36 }),
    svg("text", { x: x.at(value), y: height - 20, "text-anchor": "middle" }, String(value))]),
  svg("text", { class: "name", x: width - RIGHT, y: height - 2, "text-anchor": "end" }, "Kendall's tau"),
  ordered.map((row, i) => {
    const y = top + step * i + step / 2, beyond = row.beyond_size;
    return svg("g", { onpointermove: (event) => tell(html("div", {}, html("b", {}, row.name), `${told("all", row)}`, html("br"),
      beyond ? told("beyond size", beyond) : "nothing is left beside size", html("br"), `${row.n} networks`), event.clientX, event.clientY), onpointerleave: hush },
    svg("rect", { x: 0, y: y - step / 2, width, height: step, fill: "transparent" }),
    svg("text", { class: "name", x: 0, y: y + 4 }, row.name.replaceAll("_", " ")),
    svg("line", { class: "bar certain", x1: x.at(row.low), x2: x.at(row.high), y1: y - 3, y2: y - 3 }),
    svg("g", { class: "certain" }, mark("certain", x.at(row.tau), y - 3, 5)),
    beyond ? [svg("line", { class: "bar likely", x1: x.at(beyond.low), x2: x.at(beyond.high), y1: y + 6, y2: y + 6 }),
      svg("g", { class: "likely predicted" }, mark("likely", x.at(beyond.tau), y + 6, 3.5))] : null);
  }));
  const key = (verdict, kind, text) => html("span", {}, svg("svg", { viewBox: "0 0 16 16", class: kind }, mark(verdict, 8, 8, 5)), text);
  place.replaceChildren(html("div", { class: "legend" }, key("certain", "certain", "of all"), key("likely", "likely predicted", "beyond parameters and MACs")), picture);
  byId("correlations-note").textContent = `With the final ${correlations.score} of ${correlations.trained} networks; 1 is the same order, 0 none. Bars: the true one, with 90 %.`;
}
