// One example as it lies on the light table: picture first, then label, prediction, score and decision.

/** @import { Cell, Glyphs, Shown } from "./types.js" */
/** @import { Listeners } from "./dom.js" */
/** @import { ThumbnailCache } from "./thumbnail_cache.js" */
import { rowsCell, textCell } from "./contents.js";
import { el, find } from "./dom.js";
import { address } from "./http.js";
import { decisionText } from "./verdicts.js";

const SMALL = 64; // pictures below this many pixels are enlarged without blur
const MOST_OTHERS = 2;

/** Pixels are drawn as they are; where there are many of them, smoothly. @param {HTMLImageElement} image */
export function smoothen(image) {
  if (Math.max(image.naturalWidth, image.naturalHeight) >= SMALL) image.classList.add("hl-smooth");
}

/** The place of a picture that is missing, with the reason. @param {string} text */
const missing = (text) =>
  el("span", { class: "hl-missing" }, el("span", { class: "hl-missing-mark", "aria-hidden": "true" }, "⊘"), text);

/**
 * The example itself: picture, text or rows of values; a placeholder with its reason where there is none.
 * @param {Cell} cell
 * @param {ThumbnailCache | null} [thumbnails] draw the thumbnail; without it the original
 * @returns {HTMLElement}
 */
export function content(cell, thumbnails = null) {
  if (cell.text !== undefined && cell.text !== null) return textCell(cell.text);
  if (cell.rows) return rowsCell(cell.rows);
  if (cell.problem) return missing(cell.problem);
  const image = el("img", { class: "hl-image", alt: "", draggable: "false", decoding: "async" });
  image.addEventListener("load", () => smoothen(image));
  image.addEventListener("error", () => image.replaceWith(missing("no picture here")));
  if (thumbnails) thumbnails.show(image, cell);
  else image.src = address("image", { id: cell.id, v: cell.fingerprint });
  return image;
}

/** Words for screen readers: the meaning of colour, mark and place. @param {string} text */
const hidden = (text) => el("span", { class: "hl-hidden" }, text);

/** @type {(role: string, mark: string | undefined, meaning: string, text: string) => HTMLElement} */
const badge = (role, mark, meaning, text) =>
  el(
    "span",
    { class: `hl-badge hl-${role}`, title: `${meaning}: ${text}` },
    el("span", { class: "hl-mark", "aria-hidden": "true" }, mark),
    hidden(`${meaning} `),
    el("span", { class: "hl-word" }, text),
  );

/** @param {Cell} cell @param {Glyphs} glyphs */
function facts(cell, glyphs) {
  const label = cell.label ?? null;
  const lines = [
    label === null ? badge("nolabel", "–", "label", "none") : badge("label", glyphs.label, "label", label),
  ];
  if (cell.prediction !== null && cell.prediction !== undefined) {
    const role = cell.wrong ? "wrong" : "prediction";
    const meaning = cell.wrong ? "prediction, which differs from the label" : "prediction";
    lines.push(badge(role, glyphs[role], meaning, cell.prediction));
  }
  if (cell.score) lines.push(el("span", { class: "hl-score", title: cell.score_help ?? null }, cell.score));
  return lines;
}

/**
 * One cell of the grid; `paint` fills in the decision.
 * @param {Cell} cell
 * @param {Glyphs} glyphs
 * @param {ThumbnailCache} thumbnails
 * @param {Listeners} on
 */
export function drawCell(cell, glyphs, thumbnails, on) {
  const tick = el("span", { class: "hl-tick", title: "select", "aria-hidden": "true" });
  const status = el("span", { class: "hl-status" });
  return el(
    "div",
    { class: "hl-cell", role: "gridcell", tabindex: "-1", data: { exampleId: cell.id }, on },
    el("span", { class: "hl-picture" }, content(cell, thumbnails), tick, status),
    el("span", { class: "hl-facts" }, facts(cell, glyphs)),
  );
}

/**
 * Shows the decision about a cell, and whether it is saved.
 * @param {HTMLElement} node
 * @param {Shown} shown
 * @param {Glyphs} glyphs
 */
export function paint(node, shown, glyphs) {
  const { decision, flag, saving, others, flaggedBy, notes } = shown;
  const own = decisionText(decision);
  const chips = [];
  if (decision) chips.push(chip("decided", own, saving ? "your decision, not saved yet" : "your decision"));
  const same = others.filter((one) => decisionText(one) === own).length;
  if (same) chips.push(chip("agreed", `+${same}`, "as many more decided the same"));
  for (const one of others.filter((other) => decisionText(other) !== own).slice(0, MOST_OTHERS))
    chips.push(chip("other", `${decisionText(one)} · ${one.reviewer}`, "another reviewer's decision"));
  const who = flaggedBy.length ? ` by ${flaggedBy.join(", ")}` : "";
  if (flag) chips.push(chip("flagged", glyphs.flagged ?? "", `flagged for discussion${who}`));
  if (notes) chips.push(chip("note", notes > 1 ? `✎ ${notes}` : "✎", "notes"));
  find(node, ".hl-status").replaceChildren(...chips);
  node.classList.toggle("hl-is-decided", decision !== null || others.length > 0);
  node.classList.toggle("hl-is-flagged", flag);
  node.classList.toggle("hl-is-saving", saving);
}

/**
 * A small sign on the picture, with its meaning on hover and for screen readers.
 * @type {(role: string, text: string, meaning: string) => HTMLElement}
 */
const chip = (role, text, meaning) =>
  el("span", { class: `hl-chip hl-chip-${role}`, title: `${meaning}: ${text}` }, hidden(`${meaning}: `), text);
