// One example as it lies on the light table: picture first, then label, prediction, score and what was decided.

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
  if (cell.text !== undefined && cell.text !== null) return el("span", { class: "hl-text" }, cell.text);
  if (cell.rows) return rows(cell.rows);
  if (cell.problem) return missing(cell.problem);
  const image = el("img", { class: "hl-image", alt: "", draggable: "false", decoding: "async" });
  image.addEventListener("load", () => smoothen(image));
  image.addEventListener("error", () => image.replaceWith(missing("no picture here")));
  if (pictures) pictures.show(image, cell);
  else image.src = address("image", { id: cell.id, v: cell.fingerprint });
  return image;
}

function rows(values) {
  const line = ([name, value]) =>
    el("tr", {}, el("th", { scope: "row" }, String(name)), el("td", {}, String(value)));
  return el("table", { class: "hl-rows" }, values.map(line));
}

const badge = (role, mark, text, title) =>
  el(
    "span",
    { class: `hl-badge hl-${role}`, title },
    el("span", { class: "hl-mark", "aria-hidden": "true" }, mark),
    el("span", { class: "hl-word" }, text),
  );

function facts(cell, marks) {
  const label = cell.label ?? null;
  const lines = [
    label === null
      ? badge("nolabel", "–", "no label", "this example has no label")
      : badge("label", marks.label, label, `label: ${label}`),
  ];
  if (cell.prediction !== null && cell.prediction !== undefined) {
    const role = cell.wrong ? "wrong" : "prediction";
    lines.push(
      badge(
        role,
        marks[role],
        cell.prediction,
        `prediction: ${cell.prediction}${cell.wrong ? ", differs from the label" : ""}`,
      ),
    );
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
  if (decision) chips.push(chip("decided", "", told(decision), "your decision"));
  const same = others.filter((one) => told(one) === told(decision)).length;
  if (same) chips.push(chip("agreed", "", `+${same}`, `${same} more said so`));
  for (const one of others.filter((one) => told(one) !== told(decision)).slice(0, 2))
    chips.push(chip("other", "", `${told(one)} · ${one.reviewer}`, `${one.reviewer}: ${told(one)}`));
  if (flag)
    chips.push(
      chip(
        "flagged",
        marks.flagged,
        "",
        `flagged for discussion${flaggedBy.length ? ` by ${flaggedBy.join(", ")}` : ""}`,
      ),
    );
  if (notes)
    chips.push(chip("note", "✎", notes > 1 ? String(notes) : "", `${notes} note${notes > 1 ? "s" : ""}`));
  node.querySelector(".hl-status").replaceChildren(...chips);
  node.classList.toggle("hl-is-decided", decision !== null || others.length > 0);
  node.classList.toggle("hl-is-flagged", flag);
  node.classList.toggle("hl-is-saving", saving);
  node.setAttribute("aria-label", spoken(cell, shown));
}

function chip(role, mark, text, title) {
  return el("span", { class: `hl-chip hl-chip-${role}`, title }, mark ? `${mark} ${text}`.trim() : text);
}

/** A cell in one sentence, for those who hear the page. */
function spoken(cell, { decision, flag, saving, others, notes }) {
  const parts = [cell.label === null ? "no label" : `label ${cell.label}`];
  if (cell.prediction) parts.push(`prediction ${cell.prediction}`);
  if (cell.score) parts.push(cell.score);
  if (cell.problem) parts.push(`no picture: ${cell.problem}`);
  if (decision) parts.push(`decided ${told(decision)}${saving ? ", not saved yet" : ""}`);
  for (const one of others) parts.push(`${one.reviewer} decided ${told(one)}`);
  if (flag) parts.push("flagged");
  if (notes) parts.push(`${notes} notes`);
  return parts.join(", ");
}
