// How the search went: hypervolume over evaluations or time, and where the budget went.

function drawCurve(view) {
  const { curve } = devices.get(view.device), place = byId("curve-plot"), width = place.clientWidth;
  byId("curve-controls").replaceChildren(switcher("over", [["evaluations", "evaluations"], ["seconds", "time"]], view.over, (over) => view.set({ over })));
  if (!width) return;
  if (curve.evaluations.length < 2) {
    place.replaceChildren(html("p", { class: "soft" }, "Too few evaluations to draw."));
    return;
  }
  const height = 260, seconds = view.over === "seconds", last = curve[view.over].at(-1);
  const unit = !seconds ? 1 : last >= 7200 ? 3600 : last >= 120 ? 60 : 1;
  const across = curve[view.over].map((value) => value / unit);
  const best = Math.max(...curve.hypervolume) || 1;
  const wide = scale(0, across.at(-1), LEFT, width - RIGHT);
  const x = seconds ? wide : { ...wide, ticks: () => wide.ticks().filter(Number.isInteger) };
  const y = scale(0, 105, height - BOTTOM, TOP);
  const points = across.map((value, i) => [x.at(value), y.at((100 * curve.hypervolume[i]) / best)]);
  const line = points.map(([px, py], i) => (i ? `H${px.toFixed(1)}V${py.toFixed(1)}` : `M${px.toFixed(1)},${py.toFixed(1)}`)).join("");
  const named = seconds ? `time (${{ 1: "s", 60: "min", 3600: "h" }[unit]}), pauses left out` : "evaluations";
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `Hypervolume over ${view.over}` },
    axes({ scale: x, from: LEFT, to: width - RIGHT, name: named }, { scale: y, from: height - BOTTOM, to: TOP, name: "hypervolume (% of the final one)" }),
    svg("path", { class: "under", d: `${line}V${height - BOTTOM}H${points[0][0]}Z` }), svg("path", { class: "curve", d: line }));
  picture.addEventListener("pointermove", (event) => {
    const at = event.clientX - picture.getBoundingClientRect().left;
    const i = points.findLastIndex(([px]) => px <= at);
    if (i < 0) hush();
    else tell(html("div", {}, `after ${curve.evaluations[i]} evaluations, ${duration(curve.seconds[i])}: ${((100 * curve.hypervolume[i]) / best).toFixed(1)} %`), event.clientX, event.clientY);
  });
  picture.addEventListener("pointerleave", hush);
  place.replaceChildren(picture);
  const most = curve.hypervolume.findIndex((value) => value >= 0.95 * best);
  byId("curve-note").textContent = `In the numbers as they are known now. 95 % of it was reached after ${curve.evaluations[most]} evaluations, ${duration(curve.seconds[most])}.`;
}

const ENDS = {
  trained: "trained to the end", stopped: "stopped at a rung", infeasible: "broke a limit, never trained", failed: "failed",
  reused: "known already", confirming: "confirming, from other seeds", running: "under way",
};

function drawBudget() {
  const kinds = [["trials", "trials"], ["epochs", "epochs of training"]];
  const stack = ([kind, text]) => {
    const total = study.budget.reduce((sum, row) => sum + row[kind], 0);
    if (!total) return [];
    return [html("div", { class: "soft", style: { fontSize: ".85rem", marginTop: ".6rem" } }, `${total} ${text}`),
      html("div", { class: "stack", role: "img", "aria-label": study.budget.map((row) => `${row[kind]} ${ENDS[row.name]}`).join(", ") },
        study.budget.filter((row) => row[kind]).map((row) => html("i", { class: `is-${row.name}`, style: { flex: row[kind] },
          onpointermove: (event) => tell(html("div", {}, `${row[kind]} ${text}: ${ENDS[row.name]}`), event.clientX, event.clientY), onpointerleave: hush })))];
  };
  const head = html("tr", {}, html("th", {}, ""), html("th", { class: "number" }, "trials"), html("th", { class: "number" }, "epochs"));
  const body = study.budget.map((row) => html("tr", {},
    html("td", {}, html("span", { class: `swatch is-${row.name}` }), ENDS[row.name]),
    html("td", { class: "number" }, row.name === "confirming" ? "" : String(row.trials)), html("td", { class: "number" }, row.epochs ? String(row.epochs) : "")));
  byId("budget-plot").replaceChildren(...kinds.flatMap(stack),
    html("table", { style: { marginTop: ".8rem" } }, html("thead", {}, head), html("tbody", {}, body)));
}
