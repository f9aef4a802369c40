// The study that the page is of: its document, and questions about it. A row is a trial's place.

const study = JSON.parse(document.getElementById("data").textContent);
const rows = study.trials.number.map((_, row) => row);
const quantities = new Map(study.quantities.map((quantity) => [quantity.name, quantity]));
const decisions = new Map(study.decisions.map((decision) => [decision.name, decision]));
const devices = new Map(study.devices.map((device) => [device.name, device]));

const trialOf = (row) => study.trials.number[row];
const nameOf = (quantity) => quantities.get(quantity).label;
const unitOf = (quantity) => quantities.get(quantity).unit;

/** What is known of a quantity: `{value, low, high, predicted}` or null. */
function numberOf(row, quantity, device) {
  const column = devices.get(device).numbers[quantity] ?? study.numbers[quantity];
  const value = column?.value[row] ?? null;
  if (value === null) return null;
  const low = column.low?.[row] ?? value, high = column.high?.[row] ?? value;
  return { value, low, high, predicted: Boolean(column.predicted?.[row]) };
}

/** A trial's value of a decision, in words, or null where it has none. */
function choiceOf(row, name) {
  const { values, index } = decisions.get(name);
  return index[row] < 0 ? null : values[index[row]];
}

/** The choices of a trial with stages joined: `[["kernel", "7/13/-"], ...]`. */
function choicesOf(row) {
  return Object.entries(study.groups).map(([name, parts]) => {
    const found = parts.map((part) => choiceOf(row, part) ?? "-");
    while (found.length && found.at(-1) === "-") found.pop();
    return [name, found.join("/")];
  }).filter(([, text]) => text);
}

/** The place of a trial on the front of a device: `{row, membership, verdict}` or undefined. */
const memberOf = (row, device) => devices.get(device).front.find((member) => member.row === row);

/** Trials beside the front that have both numbers; equal networks and unfinished ones left out. */
function othersOf(device, x, y) {
  const front = new Set(devices.get(device).front.map((member) => member.row));
  return rows.filter((row) => !front.has(row) && study.trials.state[row] === "complete"
    && numberOf(row, x, device) && numberOf(row, y, device));
}

/** Words of a command, quoted for a shell where they must be. */
function command(...words) {
  const quoted = (word) => (/^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
  return ["nas", ...words, ...study.where].map((word) => quoted(String(word))).join(" ");
}
