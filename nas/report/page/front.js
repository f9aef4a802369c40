// The front: its points with intervals and membership, the dominated ones faded, and its table.

const LEFT = 46, RIGHT = 14, TOP = 34, BOTTOM = 46;
const CROWD = 300; // dominated points that are drawn fainter

/** The quantities that the axes can show: those any point of the front has. */
function axisOptions(view) {
  return study.quantities
    .filter(({ name }) => devices.get(view.device).front.some(({ row }) => numberOf(row, name, view.device)))
    .map(({ name, label, unit }) => [name, unit ? `${label} (${unit})` : label]);
}

function drawFrontControls(view) {
  const options = axisOptions(view);
  byId("front-legend").hidden = !options.length;
  if (!options.length && devices.size < 2) return;
  const shown = html("input", { type: "checkbox", onchange: () => view.set({ dominated: shown.checked }) });
  shown.checked = view.dominated;
  byId("front-controls").replaceChildren(...[
    devices.size > 1 ? select("device", [...devices.keys()].map((name) => [name, name]), view.device,
      (device) => view.set({ device })) : null,
    ...(options.length ? [
      select("up", options, view.y, (y) => view.set({ y })),
      select("across", options, view.x, (x) => view.set({ x })),
      html("label", {}, shown, "dominated networks"),
    ] : []),
  ].filter(Boolean));
}

function drawLegend(view) {
  const { front } = devices.get(view.device);
  const words = ["certain", "likely", "possible"].filter((word) => front.some(({ verdict }) => verdict === word));
  const key = (content, text, kind = "") => html("span", { class: kind },
    svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, content), text);
  const meaning = { certain: "certain: 95 % or more", likely: "likely: 50 % or more", possible: "possible" };
  const keys = words.map((word) => key(mark(word, 8, 8, 5.5), meaning[word], word));
  if (view.dominated) keys.push(key(svg("circle", { class: "other", cx: 8, cy: 8, r: 4 }), "dominated"));
  if (front.some(({ row }) => isPredicted(row, view))) {
    keys.push(html("span", {}, "hollow: predicted, not measured"));
  }
  byId("front-legend").replaceChildren(html("span", {}, "On the front:"), ...keys);
}

const isPredicted = (row, view) => [view.x, view.y].some((name) => numberOf(row, name, view.device)?.predicted);

/** What is told of a trial when it is pointed at. */
function about(row, view) {
  const member = memberOf(row, view.device);
  const head = html("b", {}, `trial ${trialOf(row)}, `,
    member ? `${member.verdict} ${percent(member.membership)}` : "not on the front");
  const numbers = shownOf(view).map((name) => [name, numberOf(row, name, view.device)])
    .filter(([, number]) => number).map(([name, number]) => [nameOf(name), interval(number, unitOf(name))]);
  return html("div", {}, head, pairs([...numbers, ...choicesOf(row).map(([name, text]) => [name, breakable(text)])], ""));
}

/** The quantities in view: the device's objectives, then what else an axis shows. */
const shownOf = (view) => [...new Set([...devices.get(view.device).objectives, view.y, view.x])];

function drawFrontPlot(view) {
  const place = byId("front-plot"), width = place.clientWidth;
  if (!width) return;
  const height = Math.round(Math.max(320, Math.min(520, width * 0.62)));
  const device = devices.get(view.device);
  const both = (row) => ({ x: numberOf(row, view.x, view.device), y: numberOf(row, view.y, view.device) });
  const members = device.front.map((member) => ({ ...member, ...both(member.row) })).filter(({ x, y }) => x && y);
  const others = (view.dominated ? othersOf(view.device, view.x, view.y) : []).map((row) => ({ row, ...both(row) }));
  if (!members.length && !others.length) {
    place.replaceChildren(html("p", { class: "soft" }, device.front.length ? "No network has both numbers." : "No point on the front yet."));
    byId("front-notes").textContent = "";
    return;
  }
  const ranges = ["x", "y"].map((way) => extent(members.map((m) => m[way]), others.map((o) => o[way]), quantities.get(view[way]),
    !device.objectives.includes(view[way])));
  const x = scale(ranges[0].low, ranges[0].high, LEFT, width - RIGHT, ranges[0].log);
  const y = scale(ranges[1].low, ranges[1].high, height - BOTTOM, TOP, ranges[1].log);
  const within = (number, way) => number.value >= way.low && number.value <= way.high;
  const shown = others.filter((other) => within(other.x, x) && within(other.y, y));
  const spots = members.map((m) => ({ ...m, px: x.at(m.x.value), py: y.at(m.y.value) }));
  const tags = placeTags(spots, shown.map((o) => [x.at(o.x.value), y.at(o.y.value)]), width, height);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "group", class: shown.length > CROWD ? "crowded" : "",
    "aria-label": `Front: ${nameOf(view.y)} against ${nameOf(view.x)}` },
    axes({ scale: x, from: LEFT, to: width - RIGHT, name: axisName(view.x) + (x.log ? ", logarithmic" : "") },
      { scale: y, from: height - BOTTOM, to: TOP, name: axisName(view.y) }),
    shown.map((o) => svg("circle", { class: view.keeps(o.row) ? "other" : "other out", cx: x.at(o.x.value), cy: y.at(o.y.value), r: 4 })),
    stairs(spots, x, y, view),
    spots.map((spot, i) => point(spot, tags[i], x, y, view)),
    chosen(view, shown, x, y));
  const hidden = others.length - shown.length;
  byId("front-notes").textContent = frontNotes(view, hidden);
  pointing(picture, [...spots, ...shown.map((o) => ({ ...o, px: x.at(o.x.value), py: y.at(o.y.value) }))], view);
  const focused = place.contains(document.activeElement);
  place.replaceChildren(picture);
  if (focused) picture.querySelector("[tabindex='0']")?.focus();
}

/** A ring around a selected point that is not on the front. */
function chosen(view, shown, x, y) {
  const found = shown.find((other) => other.row === view.selected);
  return found ? svg("circle", { class: "picked", cx: x.at(found.x.value), cy: y.at(found.y.value), r: 7 }) : null;
}

/** The border of what the front dominates, where the plot shows both of its objectives. */
function stairs(spots, x, y, view) {
  const { objectives } = devices.get(view.device);
  const both = objectives.length === 2 && objectives.includes(view.x) && objectives.includes(view.y) && view.x !== view.y;
  if (!both || !spots.length) return null;
  const [better, worse] = [quantities.get(view.x).goal === "minimize" ? 1 : -1, quantities.get(view.y).goal === "minimize" ? y.to : y.from];
  const ordered = [...spots].sort((a, b) => better * (a.px - b.px));
  let path = "", level = worse;
  for (const { px, py } of ordered) {
    if (Math.abs(py - worse) < Math.abs(level - worse)) continue;
    path += `${path ? "L" : "M"}${px},${level}L${px},${py}`;
    level = py;
  }
  return svg("path", { class: "stairs", d: `${path}L${better > 0 ? x.to : x.from},${level}` });
}

/** A point of the front: bars, mark and number; a button for pointer and keyboard. */
function point(spot, tag, x, y, view) {
  const { row, verdict, px, py } = spot;
  const inside = (way, value) => way.at(Math.max(way.low, Math.min(way.high, value)));
  const focus = view.selected !== null && memberOf(view.selected, view.device) ? view.selected : devices.get(view.device).front[0].row;
  const told = [view.y, view.x].map((name) => `${nameOf(name)} ${interval(numberOf(row, name, view.device), unitOf(name))}`);
  return svg("g", {
    class: `point ${verdict}${isPredicted(row, view) ? " predicted" : ""}${view.keeps(row) ? "" : " out"}`,
    role: "button", tabindex: row === focus ? 0 : -1, "aria-pressed": String(row === view.selected), "data-row": row,
    "aria-label": `trial ${trialOf(row)}, ${told.join(", ")}, ${verdict} ${percent(spot.membership)}`,
    onclick: () => view.set({ selected: row }),
    onkeydown: (event) => moved(event, row, view),
    onfocus: (event) => {
      if (!event.target.matches(":focus-visible")) return;
      const box = event.target.getBoundingClientRect();
      tell(about(row, view), box.right, box.top + box.height / 2);
    },
    onblur: hush,
  },
  svg("line", { class: "bar", x1: inside(x, spot.x.low), x2: inside(x, spot.x.high), y1: py, y2: py }),
  svg("line", { class: "bar", x1: px, x2: px, y1: inside(y, spot.y.low), y2: inside(y, spot.y.high) }),
  spot.x.low < x.low && arrow(x.from, py, 180),
  spot.x.high > x.high && arrow(x.to, py, 0),
  spot.y.low < y.low && arrow(px, y.from, 90),
  spot.y.high > y.high && arrow(px, y.to, -90),
  svg("circle", { class: "ring", cx: px, cy: py, r: 11 }),
  mark(verdict, px, py),
  tag && svg("text", { class: "tag", x: tag[0], y: tag[1] + 4, "text-anchor": "middle" }, String(trialOf(row))));
}

/** The end of a bar whose interval goes on beyond the plot. */
function arrow(px, py, turn) {
  const place = `translate(${px},${py}) rotate(${turn})`;
  return svg("path", { class: "bar arrow", d: "M-5,-4L4,0L-5,4Z", transform: place }, svg("title", {}, "the interval goes on"));
}

/** Arrow keys move along the front, Enter and space select. */
function moved(event, row, view) {
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    view.set({ selected: row });
    return;
  }
  const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const ordered = devices.get(view.device).front.map((member) => member.row)
    .sort((a, b) => numberOf(a, view.x, view.device).value - numberOf(b, view.x, view.device).value);
  const next = ordered[(ordered.indexOf(row) + step + ordered.length) % ordered.length];
  view.set({ selected: next });
  byId("front-plot").querySelector(`[data-row="${next}"]`)?.focus();
}

/** The nearest point within reach of the pointer is told of; a press selects it. */
function pointing(picture, spots, view) {
  const nearest = (event) => {
    const box = picture.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best = null, reach = 14;
    for (const spot of spots) {
      const far = Math.hypot(spot.px - px, spot.py - py);
      if (far < reach) [best, reach] = [spot, far];
    }
    return best;
  };
  picture.addEventListener("pointermove", (event) => {
    const spot = event.pointerType === "touch" ? null : nearest(event); // a finger selects
    if (spot) tell(about(spot.row, view), event.clientX, event.clientY);
    else hush();
  });
  picture.addEventListener("pointerleave", hush);
  picture.addEventListener("click", (event) => {
    const spot = nearest(event);
    if (spot && !event.target.closest(".point")) view.set({ selected: spot.row });
  });
}

/** Centres of the trial numbers beside their points, none over another; null where there is no room. */
function placeTags(spots, others, width, height) {
  const marks = [...spots.map(({ px, py }) => [px, py]), ...others], placed = [], tags = [];
  const ways = [[0.8, -0.8], [0.8, 0.8], [-0.8, -0.8], [-0.8, 0.8], [1.1, 0], [-1.1, 0], [0, -1.1], [0, 1.1]];
  for (const { row, px, py } of spots) {
    const half = 3.7 * String(trialOf(row)).length;
    let best = null, least = Infinity;
    for (const [order, [a, b]] of ways.entries()) {
      const [cx, cy] = [px + a * (10 + half), py + b * 16];
      const over = placed.filter(([ox, oy, oh]) => Math.abs(ox - cx) < half + oh + 2 && Math.abs(oy - cy) < 13).length;
      const outside = cx < LEFT + half || cx > width - half || cy < TOP || cy > height - BOTTOM - 6;
      const near = marks.filter(([mx, my]) => Math.abs(mx - cx) < half + 5 && Math.abs(my - cy) < 11).length;
      const cost = 10 * over + 8 * outside + near + 0.01 * order;
      if (cost < least) [best, least] = [[cx, cy, half], cost];
    }
    tags.push(least < 10 ? best : null);
    if (least < 10) placed.push(best);
  }
  return tags;
}

/** What must be known to read the front: who may belong too, what is far behind, what is unlike. */
function frontNotes(view, hidden) {
  const device = devices.get(view.device);
  const possible = device.possible.slice(0, 5).map(({ row, membership }) => `${trialOf(row)} (${percent(membership)})`);
  const more = device.possible.length > 5 ? ` and ${device.possible.length - 5} more` : "";
  return [
    possible.length ? `May belong too, though another looks better: trial ${possible.join(", ")}${more}.` : "",
    hidden ? `${hidden} far behind, outside the plot.` : "",
    ...Object.entries(device.unlike).map(([trial, reasons]) => `Trial ${trial} was timed under other conditions: ${reasons.join("; ")}.`),
    device.elsewhere ? `Timed under other conditions and not on the front: ${device.elsewhere}.` : "",
  ].filter(Boolean).join(" ");
}

function drawFrontTable(view) {
  const device = devices.get(view.device), names = shownOf(view);
  byId("front-table").hidden = !device.front.length;
  const head = html("tr", {}, html("th", {}, "trial"),
    names.map((name) => html("th", { class: "number" }, withUnit(nameOf(name), unitOf(name) && `(${unitOf(name)})`))),
    html("th", {}, "on the front"), html("th", { class: "network" }, "network"));
  const cell = (row, name) => {
    const number = numberOf(row, name, view.device);
    if (!number) return html("td", { class: "number" }, "");
    return html("td", { class: "number" }, `${number.predicted ? "~" : ""}${valueText(number)} `,
      html("span", { class: "doubt" }, doubtText(number)));
  };
  const body = device.front.map((member) => html("tr", { "aria-selected": String(member.row === view.selected),
    onclick: () => view.set({ selected: member.row }) },
  html("td", {}, html("button", { type: "button", "aria-label": `select trial ${trialOf(member.row)}` }, String(trialOf(member.row)))),
  names.map((name) => cell(member.row, name)), html("td", {}, badge(member)),
  html("td", { class: "network" }, breakable(telling(member.row, device)))));
  byId("front-table").replaceChildren(html("table", {}, html("thead", {}, head), html("tbody", {}, body)));
}

/** The choices of a network, those in which the front differs most leading. */
function telling(row, device) {
  const kinds = new Map();
  for (const member of device.front) {
    for (const [name, text] of choicesOf(member.row)) kinds.set(name, (kinds.get(name) ?? new Set()).add(text));
  }
  return choicesOf(row).filter(([name]) => device.front.length < 2 || kinds.get(name)?.size > 1)
    .sort(([a], [b]) => (kinds.get(b)?.size ?? 0) - (kinds.get(a)?.size ?? 0)).slice(0, 6)
    .map(([name, text]) => `${name} ${text}`).join("  ·  ");
}

/** A text that may be broken after its slashes. */
const breakable = (text) => text.replaceAll("/", "/\u200b");

function drawSelected(view) {
  const place = byId("selected"), row = view.selected;
  if (row === null) {
    place.replaceChildren(html("p", { class: "soft", style: { margin: 0 } }, "Select a point to see its network."));
    return;
  }
  const member = memberOf(row, view.device);
  const known = study.quantities.map(({ name, label, unit }) => [label, numberOf(row, name, view.device), unit])
    .filter(([, number]) => number)
    .map(([label, number, unit]) => [label, [short(number, unit), html("span", { class: "doubt" }, doubtText(number))]]);
  place.replaceChildren(
    html("p", { class: "headline" }, `trial ${trialOf(row)} `),
    member ? badge(member) : html("span", { class: "soft" }, study.trials.state[row]),
    pairs(known, "pairs large"),
    html("details", { open: view.choices ? "" : null, ontoggle: (event) => { view.choices = event.target.open; } },
      html("summary", {}, "its choices"),
      pairs([...choicesOf(row).map(([name, text]) => [name, breakable(text)]), ["proposed by", study.trials.origin[row]]])),
    html("div", { class: "command" }, ...copied(command("show", study.study.name, trialOf(row)))));
}
