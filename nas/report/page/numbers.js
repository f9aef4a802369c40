// Numbers as people read them: as many digits as their doubt allows, and always a unit. The space
// before a unit never breaks.

const SCALES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** `digits` significant digits without trailing zeros, never as a power of ten unless tiny. */
function significant(value, digits = 4) {
  if (value === 0) return "0";
  const text = Number(value.toPrecision(digits));
  return Math.abs(text) >= 1e-4 ? String(text) : text.toExponential();
}

/** A number without doubt: four digits, thousands as k, M, G and T. */
function plain(value) {
  const scale = SCALES.find(([size]) => Math.abs(value) >= Math.max(size, 1e4));
  return scale ? `${significant(value / scale[0])}\u00a0${scale[1]}` : significant(value);
}

/** Decimal places that show a spread with two digits, at most nine. */
function decimals(spread) {
  return spread > 0 ? Math.min(9, Math.max(0, 1 - Math.floor(Math.log10(spread)))) : 0;
}

/** The value alone, with the digits its interval allows. */
function valueText({ value, low, high }) {
  const spread = (high - low) / 2;
  return spread <= 0 || Math.abs(value) >= 1e5 ? plain(value) : value.toFixed(decimals(spread));
}

/** `[low, high]`, or nothing where there is no doubt. */
function doubtText({ value, low, high }) {
  if (!(high > low)) return "";
  const places = decimals((high - low) / 2);
  const end = Math.abs(value) >= 1e5 ? plain : (number) => number.toFixed(places);
  return `[${end(low)},\u00a0${end(high)}]`;
}

const withUnit = (text, unit) => (unit ? `${text}\u00a0${unit}` : text);

/** A value with its unit; `~` where it is predicted. */
const short = (number, unit) => (number.predicted ? "~" : "") + withUnit(valueText(number), unit);

/** A value with its interval and its unit. */
function interval(number, unit) {
  const text = [valueText(number), doubtText(number)].filter(Boolean).join(" ");
  return (number.predicted ? "~" : "") + withUnit(text, unit);
}

/** A time span in its two largest units. */
function duration(seconds) {
  const whole = Math.round(seconds), two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** A probability as a whole percentage that is never rounded to certainty. */
function percent(probability) {
  if (probability >= 0.995 && probability < 1) return ">99\u00a0%";
  if (probability > 0 && probability < 0.005) return "<1\u00a0%";
  return `${Math.round(100 * probability)}\u00a0%`;
}
