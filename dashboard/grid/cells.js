// One example as it lies on the light table: picture first, then label, prediction, score and what was decided.

import { rowsCell, textCell } from "./contents.js";
import { address, el } from "./dom.js";
import { told } from "./words.js";

const SMALL = 64; // pictures below this many pixels are enlarged without blur

/** Pixels are drawn as they are; where there are many of them, smoothly. */
export function smoothen(image) {
  if (Math.max(image.naturalWidth, image.naturalHeight) >= SMALL) image.classList.add("hl-smooth");
}

/** What stands where there is no picture, with its reason. */
const missing = (reason) =>
  el(
    "span",
    { class: "hl-missing" },
    el("span", { class: "hl-missing-mark", "aria-hidden": "true" }, "⊘"),
    reason,
  );

/** The example itself: picture, text or rows of values; a placeholder with its reason where there is none.
 *  With `pictures` the thumbnail that they have, else the original. */
export function content(cell, pictures = null) {
  if (cell.text !== undefined && cell.text !== null) return textCell(cell.text);
  if (cell.rows) return rowsCell(cell.rows);
  if (cell.problem) return missing(cell.problem);
  const image = el("img", { class: "hl-image", alt: "", draggable: "false", decoding: "async" });
  image.addEventListener("load", () => smoothen(image));
  image.addEventListener("error", () => image.replaceWith(missing("no picture here")));
  if (pictures) pictures.show(image, cell);
  else image.src = address("image", { id: cell.id, v: cell.fingerprint });
  return image;
}

/** Words for those who hear the page: what colour, mark and place say to the eye. */
const hidden = (text) => el("span", { class: "hl-hidden" }, text);

const badge = (role, mark, meaning, text) =>
  el(
    "span",
    { class: `hl-badge hl-${role}`, title: `${meaning}: ${text}` },
    el("span", { class: "hl-mark", "aria-hidden": "true" }, mark),
    hidden(`${meaning} `),
    el("span", { class: "hl-word" }, text),
  );

function facts(cell, marks) {
  const label = cell.label ?? null;
  const lines = [
    label === null ? badge("nolabel", "–", "label", "none") : badge("label", marks.label, "label", label),
  ];
  if (cell.prediction !== null && cell.prediction !== undefined) {
    const role = cell.wrong ? "wrong" : "prediction";
    const meaning = cell.wrong ? "prediction, which differs from the label" : "prediction";
    lines.push(badge(role, marks[role], meaning, cell.prediction));
  }
  if (cell.score) lines.push(el("span", { class: "hl-score", title: cell.score_help ?? null }, cell.score));
  return lines;
}

/** One cell of the grid. `on` holds its listeners; `paint` fills in what was decided. */
export function drawCell(cell, marks, pictures, on) {
  const tick = el("span", { class: "hl-tick", title: "select", "aria-hidden": "true" });
  const status = el("span", { class: "hl-status" });
  const node = el(
    "div",
    { class: "hl-cell", role: "gridcell", tabindex: "-1", data: { exampleId: cell.id }, on },
    el("span", { class: "hl-picture" }, content(cell, pictures), tick, status),
    el("span", { class: "hl-facts" }, facts(cell, marks)),
  );
  return node;
}

/** Show what is decided about a cell, and whether it is saved. */
export function paint(node, cell, shown, marks) {
  const { decision, flag, saving, others, flaggedBy, notes } = shown;
  const chips = [];
  if (decision)
    chips.push(chip("decided", told(decision), saving ? "your decision, not saved yet" : "your decision"));
  const same = others.filter((one) => told(one) === told(decision)).length;
  if (same) chips.push(chip("agreed", `+${same}`, "as many more decided the same"));
  for (const one of others.filter((one) => told(one) !== told(decision)).slice(0, 2))
    chips.push(chip("other", `${told(one)} · ${one.reviewer}`, "another reviewer's decision"));
  const who = flaggedBy.length ? ` by ${flaggedBy.join(", ")}` : "";
  if (flag) chips.push(chip("flagged", marks.flagged, `flagged for discussion${who}`));
  if (notes) chips.push(chip("note", notes > 1 ? `✎ ${notes}` : "✎", "notes"));
  node.querySelector(".hl-status").replaceChildren(...chips);
  node.classList.toggle("hl-is-decided", decision !== null || others.length > 0);
  node.classList.toggle("hl-is-flagged", flag);
  node.classList.toggle("hl-is-saving", saving);
}

/** A small sign on the picture, with its meaning on hover and for those who hear the page. */
const chip = (role, text, meaning) =>
  el(
    "span",
    { class: `hl-chip hl-chip-${role}`, title: `${meaning}: ${text}` },
    hidden(`${meaning}: `),
    text,
  );
