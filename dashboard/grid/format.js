// Numbers, times and counts as every page of hardlook writes them.

/** Three significant digits; a dash for "not computed". @param {number | null | undefined} value */
export function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(2);
  return String(Number(value.toPrecision(3)));
}

/** A point in time as a person reads it; empty where the text is none. @param {string} text */
export function moment(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? "" : time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** A number with thousands separators. @param {number} n */
export const grouped = (n) => n.toLocaleString("en");

/** A count with its noun. @param {number} n @param {string} noun */
export const plural = (n, noun) => `${grouped(n)} ${noun}${n === 1 ? "" : "s"}`;
