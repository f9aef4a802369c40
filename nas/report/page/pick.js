// The pick box: limits in, one point out, and the command that exports it; as `nas pick` picks.

function drawPick(view) {
  const { objectives, front } = devices.get(view.device);
  byId("pick").hidden = !front.length;
  const asked = view.pick;
  byId("pick-limits").replaceChildren(...objectives.map((name) => {
    const { label, unit, goal } = quantities.get(name);
    const box = html("input", { type: "number", step: "any", inputmode: "decimal", value: asked.limits[name] ?? "",
      "data-limit": name, oninput: () => answer(view, { limits: { ...view.pick.limits, [name]: box.value } }) });
    return html("label", {}, `${label} at ${goal === "minimize" ? "most" : "least"}`, box, html("span", {}, unit));
  }));
  const sure = html("input", { type: "checkbox", onchange: () => answer(view, { sure: sure.checked }) });
  sure.checked = asked.sure;
  const preferences = [["", "best"], ["knee", "the knee"], ...objectives.map((name) => [name, nameOf(name)])];
  byId("pick-more").replaceChildren(
    select("prefer", preferences, asked.prefer, (prefer) => answer(view, { prefer })),
    html("label", { title: "a repeat keeps each limit with 95 %" }, sure, "95 % sure"));
  drawAnswer(view);
}

function answer(view, change) {
  Object.assign(view.pick, change);
  const found = picked(view);
  if (found.row !== undefined && found.asked) view.set({ selected: found.row });
  drawAnswer(view);
}

/** The first point, in the order of the preference, that keeps every limit; or the nearest. */
function picked(view) {
  const { order, objectives } = devices.get(view.device);
  const { limits, prefer, sure } = view.pick;
  const given = objectives.filter((name) => limits[name] !== undefined && limits[name] !== "" && isFinite(limits[name]));
  const wanted = prefer || (given.length ? (objectives.includes(study.study.score) ? study.study.score : objectives[0]) : "knee");
  const excess = (row, name) => {
    const number = numberOf(row, name, view.device), limit = Number(limits[name]);
    const least = quantities.get(name).goal === "minimize";
    const held = sure ? (least ? number.high : number.low) : number.value;
    return { by: least ? held - limit : limit - held, share: (least ? held - limit : limit - held) / (Math.abs(limit) || 1), held };
  };
  const kept = order[wanted]?.find((row) => given.every((name) => excess(row, name).by <= 0));
  if (kept !== undefined) return { row: kept, wanted, given, asked: given.length > 0 || prefer !== "" };
  const total = (row) => given.reduce((sum, name) => sum + Math.max(0, excess(row, name).share), 0);
  const nearest = [...(order[wanted] ?? [])].sort((a, b) => total(a) - total(b))[0];
  return { nearest, wanted, given, over: given.filter((name) => excess(nearest, name).by > 0)
    .map((name) => `${nameOf(name)} ${withUnit(significant(excess(nearest, name).by, 2), unitOf(name))} beyond`) };
}

function drawAnswer(view) {
  const place = byId("pick-answer"), found = picked(view);
  if (found.row === undefined) {
    place.replaceChildren(html("p", { style: { margin: 0 } },
      `No point keeps that. The nearest, trial ${trialOf(found.nearest)}: ${found.over.join(", ")}.`));
    return;
  }
  const { name } = study.study, row = found.row;
  const limits = found.given.flatMap((of) =>
    ["--constraint", `${of}${quantities.get(of).goal === "minimize" ? "<=" : ">="}${Number(view.pick.limits[of])}`]);
  const elsewhere = view.device === study.study.device ? [] : ["--device", view.device];
  const said = ["pick", name, ...limits, ...(view.pick.prefer ? ["--prefer", view.pick.prefer] : []),
    ...(view.pick.sure && limits.length ? ["--confidence", "0.95"] : []), ...elsewhere];
  const numbers = devices.get(view.device).objectives.map((of) => short(numberOf(row, of, view.device), unitOf(of)));
  place.replaceChildren(
    html("p", { style: { margin: 0 } }, html("b", {}, `trial ${trialOf(row)}`),
      `: ${numbers.join(", ")}${found.wanted === "knee" ? ", the knee of the front" : ""}`),
    html("div", { class: "command" }, ...copied(command("export", name, trialOf(row), "--output", "out/"))),
    html("details", {}, html("summary", {}, "the same on the command line"),
      html("div", { class: "command" }, ...copied(command(...said)))));
}

/** A command with a button that copies it; where that is forbidden, the text is marked instead. */
function copied(text) {
  const code = html("code", {}, text);
  const button = html("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "marked";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  } }, "copy");
  return [code, button];
}
