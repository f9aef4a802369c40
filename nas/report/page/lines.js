// Parallel coordinates: an axis for each objective and decision, a line for each network. What the
// values pressed and the ranges drawn in leave out fades here and in the front.

const MOST_VALUES = 9, FIRST_DECISIONS = 6, CROWD_OF_LINES = 25;

/** Decisions that differ between networks, those that decide most leading. */
const differing = study.decisions.filter(({ values, index }) => values.length > 1 || index.includes(-1));

/** The rows of the figure: objectives, then the decisions shown. */
function axesOf(view) {
  const { objectives } = devices.get(view.device);
  return [
    ...objectives.map((name) => numeric(name, nameOf(name), unitOf(name), (row) => numberOf(row, name, view.device)?.value ?? null)),
    ...differing.filter(({ name }) => view.decisions.has(name)).map((decision) => {
      const values = decision.values.map(Number);
      const many = decision.values.length > MOST_VALUES && values.every(isFinite);
      return many ? numeric(decision.name, decision.name, "", (row) => (decision.index[row] < 0 ? null : values[decision.index[row]]))
        : { name: decision.name, title: decision.name, values: decision.values, of: (row) => (decision.index[row] < 0 ? null : decision.index[row]) };
    }),
  ];
}

function numeric(name, title, unit, of) {
  const known = drawn.map(of).filter((value) => value !== null);
  const [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  return { name, title, unit, of, low, high: high > low ? high : low + 1, log: low > 0 && high / low > 12 && unit !== "%" };
}

/** Networks that are drawn: those that were trained at all. */
const drawn = rows.filter((row) => ["complete", "stopped"].includes(study.trials.state[row]));

/** Whether a trial has every value pressed and lies in every range. */
function keeps(row, view) {
  return [...view.filters].every(([name, filter]) => {
    if (filter instanceof Set) return filter.has(decisions.get(name).index[row]);
    const value = decisions.has(name) ? Number(choiceOf(row, name) ?? NaN) : numberOf(row, name, view.device)?.value ?? NaN;
    return value >= filter[0] && value <= filter[1];
  });
}

function drawLinesControls(view) {
  const kept = drawn.filter((row) => view.keeps(row)).length;
  const boxes = differing.map(({ name }) => {
    const box = html("input", { type: "checkbox", onchange: () => {
      if (box.checked) view.decisions.add(name);
      else { view.decisions.delete(name); view.filters.delete(name); }
      view.set({});
    } });
    box.checked = view.decisions.has(name);
    return html("label", {}, box, name);
  });
  const open = byId("lines-controls").querySelector("details")?.open;
  byId("lines-controls").replaceChildren(
    html("span", { role: "status" }, view.filters.size ? `${kept} of ${drawn.length} networks kept` : `${drawn.length} networks`),
    html("button", { type: "button", disabled: view.filters.size ? null : "", onclick: () => { view.filters.clear(); view.set({}); } }, "keep all"),
    html("details", { open: open ? "" : null }, html("summary", { style: { margin: 0 } }, "decisions shown"),
      html("div", { class: "controls", style: { marginTop: ".5rem" } }, boxes)));
}

function drawLines(view) {
  const place = byId("lines-plot");
  byId("lines").hidden = !drawn.length;
  if (!place.clientWidth) return;
  const shown = axesOf(view), focused = document.activeElement?.dataset?.key;
  place.replaceChildren(svg("svg", { "aria-hidden": "true" }), ...shown.map((axis) => axisRow(axis, view)));
  if (focused) place.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  drawPaths(view, shown);
}

function axisRow(axis, view) {
  const track = html("div", { class: "track" }, axis.values ? valueButtons(axis, view) : rangeInputs(axis, view));
  const title = html("div", { class: "title" }, axis.title, axis.unit ? html("small", {}, ` ${axis.unit}`) : null);
  return html("div", { class: axis.values ? "axis" : "axis range", role: "group", "aria-label": axis.title }, title, track);
}

/** A button for each value of a decision; pressed ones are kept. */
function valueButtons(axis, view) {
  const filter = view.filters.get(axis.name);
  return axis.values.map((value, i) => html("button", {
    type: "button", "aria-pressed": String(Boolean(filter?.has(i))), "data-key": `${axis.name}=${i}`, title: value,
    style: { left: `${100 * slot(i, axis.values.length)}%` },
    onclick: () => {
      const chosen = new Set(filter ?? []);
      if (!chosen.delete(i)) chosen.add(i);
      if (chosen.size) view.filters.set(axis.name, chosen);
      else view.filters.delete(axis.name);
      view.set({});
    },
  }, value));
}

const slot = (i, count) => (i + 0.5) / count;

/** Two sliders on one track: the lower and the upper end of what is kept. */
function rangeInputs(axis, view) {
  const place = scale(axis.low, axis.high, 0, 1000, axis.log);
  const back = (at) => (axis.log ? axis.low * (axis.high / axis.low) ** (at / 1000) : axis.low + ((axis.high - axis.low) * at) / 1000);
  const filter = view.filters.get(axis.name) ?? [axis.low, axis.high];
  const text = (value) => withUnit(plain(value), axis.unit);
  const ends = filter.map((value, i) => html("input", { type: "range", min: 0, max: 1000, value: Math.round(place.at(value)),
    "aria-label": `${axis.title}, ${i ? "most" : "least"}`, "aria-valuetext": text(value), "data-key": `${axis.name}[${i}]`,
    oninput: () => {
      const [one, other] = [Number(ends[0].value), Number(ends[1].value)];
      if (one > other) ends[i].value = ends[1 - i].value;
      const [low, high] = [Number(ends[0].value), Number(ends[1].value)];
      if (low === 0 && high === 1000) view.filters.delete(axis.name);
      else view.filters.set(axis.name, [low === 0 ? axis.low : back(low), high === 1000 ? axis.high : back(high)]);
      ends.forEach((end, j) => end.setAttribute("aria-valuetext", text(view.filters.get(axis.name)?.[j] ?? [axis.low, axis.high][j])));
      view.set({}, { keepLines: true });
    } }));
  return [...ends, html("span", { class: "end" }, plain(axis.low)), html("span", { class: "end high" }, plain(axis.high))];
}

/** The lines alone: drawn anew while a range is drawn in, without taking the slider away. */
function drawPaths(view, shown = axesOf(view)) {
  const place = byId("lines-plot"), picture = place.querySelector("svg");
  const tracks = [...place.querySelectorAll(".track")];
  if (tracks.length !== shown.length) return;
  const box = place.getBoundingClientRect();
  picture.classList.toggle("crowded", devices.get(view.device).front.length > CROWD_OF_LINES);
  picture.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  const rails = tracks.map((track, i) => {
    const rail = track.getBoundingClientRect();
    return { axis: shown[i], left: rail.left - box.left, width: rail.width, y: rail.top - box.top + rail.height / 2 };
  });
  const offsets = rails.map(({ axis }) => (axis.values ? spread(axis) : null));
  const path = (row) => {
    const points = rails.map(({ axis, left, width, y }, i) => {
      const value = axis.of(row);
      if (value === null) return null;
      const inset = 6, at = axis.values ? slot(value, axis.values.length) + offsets[i].get(row) / axis.values.length
        : scale(axis.low, axis.high, inset / width, 1 - inset / width, axis.log).at(value);
      return `${(left + at * width).toFixed(1)},${y.toFixed(1)}`;
    }).filter(Boolean);
    return points.length > 1 ? `M${points.join("L")}` : "";
  };
  const front = new Map(devices.get(view.device).front.map((member) => [member.row, member]));
  const crowd = drawn.filter((row) => !front.has(row));
  const filtered = view.filters.size > 0;
  const bundle = (those, kind) => svg("path", { class: kind, d: those.map(path).join("") });
  picture.replaceChildren(
    bundle(crowd.filter((row) => !view.keeps(row)), "out"),
    bundle(crowd.filter((row) => view.keeps(row)), filtered ? "kept" : "all"),
    ...[...front.values()].map(({ row, verdict }) => svg("path", { class: `on ${verdict}${view.keeps(row) ? "" : " left"}`, d: path(row), "data-row": row })),
    ...(view.selected === null ? [] : [svg("path", { class: "chosen", d: path(view.selected), "data-row": view.selected })]));
}

/** Lines that share a value lie side by side within its slot. */
function spread(axis) {
  const seen = new Map(), places = new Map();
  for (const row of drawn) {
    const value = axis.of(row), before = seen.get(value) ?? 0;
    seen.set(value, before + 1);
    places.set(row, before);
  }
  return new Map(drawn.map((row) => [row, ((places.get(row) + 0.5) / seen.get(axis.of(row)) - 0.5) * 0.6]));
}
