// Small pictures of other examples with their labels: neighbours, opponents, gold and typical examples, look-alikes.

/** @import { Cell, Host } from "./types.js" */
import { content } from "./cells.js";
import { el, find } from "./dom.js";
import { decisionText } from "./verdicts.js";

/**
 * A thumbnail that can be clicked; `cell.top` is a figure on top of its label (distance, influence).
 * @param {Host} host
 * @param {Cell} cell
 * @param {() => unknown} click
 * @param {{label?: string}} [options]
 */
export function thumb(host, cell, click, { label = `open ${cell.id}` } = {}) {
  const top = cell.top ?? cell.influence ?? null;
  const facts = [
    `label: ${cell.label ?? "none"}`,
    cell.prediction === null ? null : `prediction: ${cell.prediction}`,
    cell.suggestion ? `suggestion: ${cell.suggestion}` : null,
    cell.top_help ?? cell.score_help,
    cell.id,
  ];
  const ink = (/** @type {string} */ role) =>
    el("span", { class: `hl-ink-${role}`, "aria-hidden": "true" }, host.hub.glyphs[role]);
  const node = el(
    "button",
    {
      type: "button",
      class: "hl-thumb",
      title: facts.filter(Boolean).join("\n"),
      "aria-label": [label, top, `label ${cell.label ?? "none"}`].filter(Boolean).join(", "),
      data: { thumbOf: cell.id },
      on: { click },
    },
    el("span", { class: "hl-picture" }, content(cell, host.hub.thumbnails), el("span", { class: "hl-status" })),
    top === null ? null : el("span", { class: "hl-influence" }, top),
    el("span", { class: "hl-under" }, ink("label"), ` ${cell.label ?? "–"} `),
    cell.wrong ? el("span", { class: "hl-under" }, ink("wrong"), ` ${cell.prediction}`) : null,
  );
  paintThumb(host, node);
  return node;
}

/** Shows on a thumbnail the decision about its example. @param {Host} host @param {HTMLElement} node */
export function paintThumb(host, node) {
  const { decision, others } = host.decisions.shown(node.dataset.thumbOf ?? "");
  const latest = decision ?? others[0] ?? null;
  const chips = latest ? [el("span", { class: "hl-chip hl-chip-decided" }, decisionText(latest))] : [];
  find(node, ".hl-status").replaceChildren(...chips);
  node.classList.toggle("hl-is-decided", latest !== null);
}

/** Shows the decisions on all thumbnails of an element. @param {Host} host @param {HTMLElement} root */
export function paintThumbs(host, root) {
  for (const node of root.querySelectorAll(".hl-thumb")) if (node instanceof HTMLElement) paintThumb(host, node);
}
