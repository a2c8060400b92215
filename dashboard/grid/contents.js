// Examples that are no pictures: a text, or the columns of a vector. Whatever they hold goes in as text nodes.

import { cutPanel } from "./cut.js";
import { el } from "./dom.js";

const HIDDEN = "Blind: what the model makes of it is hidden until the first verdict.";
const MARKED = 0.5; // share of the strongest token from which one is underlined as well

/** The beginning of a text in a cell; `dir=auto` keeps marks of direction inside it. */
export const textCell = (text) => el("span", { class: "hl-text", dir: "auto" }, text);

/** The first columns of a vector in a cell, the most unusual ones on top. */
export function rowsCell(rows) {
  const line = (row) => {
    const { name, value, unit, z, odd } = Array.isArray(row) ? { name: row[0], value: row[1] } : row;
    const whole = unit ? `${value} ${unit}` : String(value);
    return el(
      "tr",
      { class: odd ? "hl-odd" : null, title: `${name}: ${whole}${z ? `, robust z ${z}` : ""}` },
      el("th", { scope: "row", dir: "auto" }, String(name)),
      el("td", { dir: "auto" }, whole),
      z === undefined ? null : el("td", { class: "hl-z" }, z),
    );
  };
  return el("table", { class: "hl-rows" }, rows.map(line));
}

/** The whole of an opened example that is no picture, with its VoG map where `map` is on; null for pictures.
 *  `about`: {id, run, memory} of the example, for what is asked of the server. */
export function whole(content, map, about) {
  if (content?.kind === "text") return wholeText(content, map);
  if (content?.kind === "vector") return wholeRows(content, map, about);
  return null;
}

/** An example as it is before anybody has judged it: all of it, and nothing of the model. */
export const unjudged = (content) => content && { ...content, map: false, blind: true };

function wholeText({ pieces, left, map: kept, spans, blind }, map) {
  const lit = map && kept && spans;
  const draw = ([text, strength]) => {
    if (!lit || strength === null) return text;
    const node = el("mark", { class: strength >= MARKED ? "hl-token hl-top" : "hl-token" }, text);
    node.title = `VoG: ${Math.round(100 * strength)} % of the strongest token`;
    node.style.setProperty("--share", String(strength));
    return node;
  };
  return el(
    "div",
    { class: "hl-whole" },
    map ? el("p", { class: "hl-quiet", data: { testid: "map-note" } }, blind ? HIDDEN : tokenNote(kept, spans)) : null,
    el("div", { class: "hl-text", dir: "auto", data: { testid: "whole-text" } }, pieces.map(draw)),
    left ? el("p", { class: "hl-quiet" }, `… and ${left.toLocaleString("en")} more characters`) : null,
  );
}

function tokenNote(kept, spans) {
  if (!kept) return "No VoG map is kept for this example.";
  if (!spans)
    return "The tokens' VoG is kept, but not where they stand: give the transform a method spans(text).";
  return "Marked: tokens whose gradient moved most over the last three checkpoints; underlined, at least half of the strongest.";
}

function wholeRows({ rows, left, compared, map: kept, blind }, map, about) {
  const lit = map && kept;
  const line = ({ name, value, unit, z, odd, vog }) => {
    const bar = el("span", { class: "hl-fill hl-fill-plain" });
    bar.style.setProperty("--share", String(vog ?? 0));
    return el(
      "tr",
      { class: odd ? "hl-odd" : null },
      el("th", { scope: "row", dir: "auto" }, name),
      el("td", { dir: "auto" }, unit ? `${value} ${unit}` : value),
      el("td", { class: "hl-z" }, z ?? ""),
      lit ? el("td", { class: "hl-track" }, bar) : null,
    );
  };
  const head = ["column", "value", "robust z", ...(lit ? ["VoG"] : [])];
  return el(
    "div",
    { class: "hl-whole" },
    about?.run && !blind ? cutPanel({ ...about, rows }) : null,
    el("p", { class: "hl-quiet" }, compared),
    map ? el("p", { class: "hl-quiet", data: { testid: "map-note" } }, blind ? HIDDEN : columnNote(kept)) : null,
    el(
      "table",
      { class: "hl-columns", data: { testid: "whole-rows" } },
      el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, rows.map(line)),
    ),
    left ? el("p", { class: "hl-quiet" }, `… and ${left.toLocaleString("en")} columns that deviate less`) : null,
  );
}

const columnNote = (kept) =>
  kept
    ? "VoG: how much the gradient of each column moved over the last three checkpoints, of the strongest column."
    : "No VoG map is kept for this example.";
