// The same networks on two devices: latency against latency, how far the order changes, who comes and goes.

const NAMED = 10; // trials that are named in a sentence

function drawDevices(view) {
  const own = study.study.device, others = study.devices.filter(({ name, retarget }) => name !== own && retarget && retarget.measured + retarget.predicted);
  byId("devices").hidden = !others.length;
  byId("devices-plots").replaceChildren(...others.map((device) => html("figure", {},
    html("h3", {}, `${own} to ${device.name}`), html("div", { class: "plot" }),
    html("figcaption", {}, changes(device)))));
  others.forEach((device, i) => drawPair(byId("devices-plots").querySelectorAll(".plot")[i], own, device.name, view));
}

function changes({ retarget }) {
  const { tau, joined, left, measured, predicted } = retarget;
  const order = tau.value === null ? "The order is not known." : `Kendall's tau ${tau.value.toFixed(2)} [${tau.low.toFixed(2)}, ${tau.high.toFixed(2)}] of ${tau.n} networks.`;
  const listed = (those) => those.slice(0, NAMED).join(", ") + (those.length > NAMED ? ` and ${those.length - NAMED} more` : "");
  const named = (word, those) => (those.length ? ` ${word} the front: trial ${listed(those)}.` : "");
  const numbers = [[measured, "measured"], [predicted, "predicted"]].filter(([count]) => count).map(([count, word]) => `${count} ${word}`).join(", ");
  return `${order}${named("Joined", joined)}${named("Left", left)} ${numbers}.`;
}

function drawPair(place, own, other, view) {
  const width = place.clientWidth, height = Math.round(Math.min(width * 0.7, 340)), name = "latency_ms";
  if (!width || !quantities.has(name)) return;
  const both = rows.map((row) => ({ row, x: numberOf(row, name, own), y: numberOf(row, name, other) })).filter(({ x, y }) => x && y);
  if (!both.length) return;
  const ranges = ["x", "y"].map((way) => extent(both.map((point) => point[way]), [], quantities.get(name)));
  const x = scale(ranges[0].low, ranges[0].high, LEFT, width - RIGHT, ranges[0].log);
  const y = scale(ranges[1].low, ranges[1].high, height - BOTTOM, TOP, ranges[1].log);
  const spots = both.map((point) => ({ ...point, px: x.at(point.x.value), py: y.at(point.y.value), member: memberOf(point.row, other) ?? memberOf(point.row, own) }))
    .sort((a, b) => Boolean(a.member) - Boolean(b.member));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", class: spots.length > CROWD ? "crowded" : "", "aria-label": `Latency on ${other} against ${own}` },
    axes({ scale: x, from: LEFT, to: width - RIGHT, name: `latency on ${own} (ms)` }, { scale: y, from: height - BOTTOM, to: TOP, name: `latency on ${other} (ms)` }),
    spots.map(({ row, px, py, y: there, member }) => (
      member ? svg("g", { class: `${member.verdict}${there.predicted ? " predicted" : ""}` }, mark(member.verdict, px, py, row === view.selected ? 8 : 5))
        : svg("circle", { class: "other", cx: px, cy: py, r: 3.5 }))));
  pointing(picture, spots, view);
  place.replaceChildren(picture);
}
