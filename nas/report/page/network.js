// Each network of the front as its file ships: stages with maps and kernels to one scale, bits,
// zeros, and what every layer takes of the latency.

const LARGEST = 84; // pixels of the largest map or kernel of a network
const FIRST_NETWORKS = 6; // drawn before all are asked for, the selected one always among them

function drawNetworks(view) {
  const known = devices.get(view.device).front.filter(({ row }) => study.networks[trialOf(row)]);
  const some = known.filter(({ row }, i) => view.everyNetwork || i < FIRST_NETWORKS || row === view.selected);
  byId("networks").hidden = !known.length;
  byId("network-cards").replaceChildren(...some.map((member) => card(member, view)), ...(some.length < known.length
    ? [html("button", { type: "button", onclick: () => view.set({ everyNetwork: true }) }, `all ${known.length} networks`)] : []));
}

function card(member, view) {
  const trial = trialOf(member.row), network = study.networks[trial];
  const numbers = devices.get(view.device).objectives
    .map((name) => [name, numberOf(member.row, name, view.device)]).filter(([, number]) => number)
    .map(([name, number]) => html("span", {}, `${nameOf(name)} `, html("b", {}, short(number, unitOf(name)))));
  return html("article", { class: "network-card", "aria-label": `trial ${trial}` },
    html("header", {},
      html("button", { type: "button", "aria-pressed": String(member.row === view.selected), onclick: () => view.set({ selected: member.row }) }, `trial ${trial}`),
      badge(member), ...numbers, html("span", { class: "soft" }, sizes(network))),
    html("div", { class: "stages", tabindex: 0, role: "group", "aria-label": `stages of trial ${trial}` }, stagesOf(network)),
    layersOf(network));
}

const sizes = ({ stages }) => {
  const total = (name) => stages.reduce((sum, stage) => sum + stage[name], 0);
  return `${plain(total("params"))} weights, ${plain(total("macs"))} MACs`;
};

function stagesOf(network) {
  const sides = network.stages.flatMap(({ map, kernels }) => [...map, ...kernels.flatMap(({ reach }) => reach)]);
  const pixel = LARGEST / Math.max(...sides, 1);
  const tallest = Math.max(...network.stages.map((stage) => pixel * tall(stage)), 10);
  return network.stages.map((stage) => {
    const share = network.ms ? stage.ms / network.ms : null;
    return html("div", { class: "stage" }, html("b", {}, stage.name), diagram(stage, pixel, tallest),
      html("div", {}, stage.map[0] > 1 || stage.map[1] > 1 ? `${stage.map.join("×")} map` : "vector", `, ${stage.channels} ch`),
      html("div", { class: "soft" }, kernelText(stage)),
      html("div", { class: "chips" }, chips(stage)),
      share === null ? null : html("div", { class: "share", "aria-hidden": "true" }, html("i", { style: { width: `${(100 * share).toFixed(1)}%` } })),
      share === null ? null : html("div", {}, `${withUnit(significant(stage.ms, 2), "ms")}, ${percent(share)}`));
  });
}

const tall = ({ map, kernels }) => Math.max(map[0], ...kernels.map(({ reach }) => reach[0]));

/** The map of a stage and the kernels that run on it, to scale. */
function diagram({ map, kernels }, pixel, height) {
  const width = LARGEST, centre = (size, of) => (of - size) / 2;
  const box = ([down, across], kind) => svg("rect", { class: kind, x: centre(across * pixel, width), y: centre(down * pixel, height),
    width: Math.max(across * pixel, 2), height: Math.max(down * pixel, 2), rx: 1 });
  return svg("svg", { viewBox: `-1 -1 ${width + 2} ${height + 2}`, height: Math.min(height + 2, 88), "aria-hidden": "true" },
    map[0] * map[1] > 1 ? box(map, "map") : null, kernels.map(({ reach, kind }) => box(reach, kind === "depthwise" ? "kernel" : "kernel step")));
}

/** The kernels larger than a point in words: `7×7 depthwise ×3`. */
function kernelText({ kernels }) {
  if (!kernels.length) return "1×1 only";
  return kernels.slice(0, 4).map(({ size, dilation, kind, times }) =>
    `${size.join("×")}${kind === "depthwise" ? " dw" : ""}${dilation > 1 ? ` /${dilation}` : ""}${times > 1 ? ` ·${times}` : ""}`)
    .join(", ") + (kernels.length > 4 ? ", …" : "");
}

function chips({ bits, zeros, layers }) {
  const kinds = Object.entries(bits).sort(([a], [b]) => b - a);
  const word = (b) => (b === "32" ? "fp32" : b === "16" ? "16 bit" : `int${b}`);
  const precise = kinds.map(([b, count]) => html("span", { class: b === "32" ? "chip" : "chip few" },
    kinds.length > 1 ? `${word(b)} in ${count} of ${layers}` : word(b)));
  return [...precise, zeros >= 0.01 ? html("span", { class: "chip zeros" }, `${percent(zeros)} zero`) : null];
}

/** A bar of all layers by what they take, and the same as a table. */
function layersOf(network) {
  if (!network.ms) return html("p", { class: "soft", style: { margin: ".3rem 0 0", fontSize: ".85rem" } }, `Latency by layer: ${network.about || "not known"}.`);
  const inOrder = [...network.layers].sort((a, b) => (a.stage < 0) - (b.stage < 0) || a.stage - b.stage);
  const shade = (stage) => `${100 - (stage % 3) * 28}%`;
  const strip = html("div", { class: "strip", "aria-hidden": "true" }, inOrder.filter(({ ms }) => ms > 0).map(({ name, ms, stage }) => html("i", {
    class: stage < 0 ? "rest" : "", style: { flex: (100 * ms) / network.ms, opacity: stage < 0 ? 1 : shade(stage) },
    onpointermove: (event) => tell(html("div", {}, html("b", {}, name), `${significant(ms, 3)} ms, ${percent(ms / network.ms)}`), event.clientX, event.clientY),
    onpointerleave: hush })));
  const head = html("tr", {}, html("th", {}, "layer"), html("th", { class: "number" }, "ms"), html("th", { class: "number" }, "share"));
  const body = network.layers.map(({ name, ms }) => html("tr", {}, html("td", {}, name),
    html("td", { class: "number" }, ms.toFixed(4)), html("td", { class: "number" }, percent(ms / network.ms))));
  return html("div", {}, strip, html("details", {},
    html("summary", {}, `${network.layers.length} layers, the slowest first`),
    html("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "layers" },
      html("table", {}, html("thead", {}, head), html("tbody", {}, body)))));
}
