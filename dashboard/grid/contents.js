// Examples that are no pictures: a text, or the columns of a vector. Whatever they hold goes in as text nodes.

/** @import { Cell, Column, Content, TextContent, VectorContent } from "./types.js" */
/** @import { PlaneMemory } from "./decision_plane.js" */
import { planePanel } from "./decision_plane.js";
import { el, quiet } from "./dom.js";
import { grouped } from "./format.js";

const HIDDEN = "Blind: model output is hidden until the first verdict.";
const NO_MAP = "No VoG map is kept for this example.";
const MARKED = 0.5; // share of the strongest token from which one is underlined as well

/**
 * The example that a content belongs to, for requests about it.
 * @typedef {{id: string, run: string | null, memory: PlaneMemory}} About
 */

/** The beginning of a text in a cell; `dir=auto` keeps marks of direction inside it. @param {string} text */
export const textCell = (text) => el("span", { class: "hl-text", dir: "auto" }, text);

/** The first columns of a vector in a cell, the most unusual ones on top. @param {NonNullable<Cell["rows"]>} rows */
export function rowsCell(rows) {
  const line = (/** @type {NonNullable<Cell["rows"]>[number]} */ row) => {
    const { name, value, unit, z, odd } = Array.isArray(row)
      ? { name: row[0], value: row[1], unit: null, z: undefined, odd: false }
      : row;
    const full = unit ? `${value} ${unit}` : String(value);
    return el(
      "tr",
      { class: odd ? "hl-odd" : null, title: `${name}: ${full}${z ? `, robust z ${z}` : ""}` },
      el("th", { scope: "row", dir: "auto" }, String(name)),
      el("td", { dir: "auto" }, full),
      z === undefined ? null : el("td", { class: "hl-z" }, z),
    );
  };
  return el("table", { class: "hl-rows" }, rows.map(line));
}

/**
 * The whole of an opened example that is no picture.
 * @param {Content} content
 * @param {boolean} map whether its VoG map is shown
 * @param {About} about
 */
export const whole = (content, map, about) =>
  content.kind === "text" ? wholeText(content, map) : wholeRows(content, map, about);

/**
 * A content without model output, as it is before anybody has judged it.
 * @param {Content} content
 * @returns {Content}
 */
export const unjudged = (content) => ({ ...content, map: false, blind: true });

/** @param {string} text */
const mapNote = (text) => el("p", { class: "hl-quiet", data: { testid: "map-note" } }, text);

/** @param {TextContent} content @param {boolean} map */
function wholeText({ pieces, left, map: kept, spans, blind }, map) {
  const lit = map && kept && spans;
  const draw = (/** @type {[string, number | null]} */ [text, strength]) => {
    if (!lit || strength === null) return text;
    const node = el("mark", { class: strength >= MARKED ? "hl-token hl-top" : "hl-token" }, text);
    node.title = `VoG: ${Math.round(100 * strength)} % of the strongest token`;
    node.style.setProperty("--share", String(strength));
    return node;
  };
  return el(
    "div",
    { class: "hl-whole" },
    map ? mapNote(blind ? HIDDEN : tokenNote(kept, spans)) : null,
    el("div", { class: "hl-text", dir: "auto", data: { testid: "whole-text" } }, pieces.map(draw)),
    left ? quiet(`… and ${grouped(left)} more characters`) : null,
  );
}

/** @param {boolean} kept @param {boolean} spans */
function tokenNote(kept, spans) {
  if (!kept) return NO_MAP;
  if (!spans) return "The VoG of the tokens is kept, but not their positions: give the transform a method spans(text).";
  return "Marked: tokens whose gradient varied most over the last three checkpoints; underlined: strongest ones.";
}

/** @param {VectorContent} content @param {boolean} map @param {About} about */
function wholeRows({ rows, left, compared, map: kept, blind }, map, about) {
  const lit = map && kept;
  const line = (/** @type {Column} */ { name, value, unit, z, odd, vog }) => {
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
    about.run && !blind ? planePanel({ ...about, rows }) : null,
    quiet(compared),
    map ? mapNote(blind ? HIDDEN : columnNote(kept)) : null,
    el(
      "table",
      { class: "hl-columns", data: { testid: "whole-rows" } },
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          head.map((text) => el("th", { scope: "col" }, text)),
        ),
      ),
      el("tbody", {}, rows.map(line)),
    ),
    left ? quiet(`… and ${grouped(left)} columns that deviate less`) : null,
  );
}

/** @param {boolean} kept */
const columnNote = (kept) =>
  kept
    ? "VoG: how much the gradient of each column varied over the last three checkpoints, of the strongest column."
    : NO_MAP;
