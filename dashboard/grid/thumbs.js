// Small pictures of other examples with their labels: neighbours, opponents, gold and typical examples, members.

import { content } from "./cells.js";
import { el } from "./dom.js";
import { told } from "./words.js";

/** One thumbnail that can be clicked. `cell.top`: a figure on top of its label (distance, influence). */
export function thumb(desk, cell, click, { label = `open ${cell.id}` } = {}) {
  const top = cell.top ?? cell.influence ?? null;
  const facts = [
    `label: ${cell.label ?? "none"}`,
    cell.prediction === null ? null : `prediction: ${cell.prediction}`,
    cell.suggestion ? `suggestion: ${cell.suggestion}` : null,
    cell.top_help ?? cell.score_help,
    cell.id,
  ];
  const ink = (role) =>
    el("span", { class: `hl-ink-${role}`, "aria-hidden": "true" }, desk.hub.glyphs[role]);
  const said = [label, top, `label ${cell.label ?? "none"}`].filter(Boolean).join(", ");
  const node = el(
    "button",
    {
      type: "button",
      class: "hl-thumb",
      title: facts.filter(Boolean).join("\n"),
      "aria-label": said,
      data: { thumbOf: cell.id },
      on: { click },
    },
    el("span", { class: "hl-picture" }, content(cell, desk.hub.pictures), el("span", { class: "hl-status" })),
    top === null ? null : el("span", { class: "hl-influence" }, top),
    el("span", { class: "hl-under" }, ink("label"), ` ${cell.label ?? "–"} `),
    cell.wrong ? el("span", { class: "hl-under" }, ink("wrong"), ` ${cell.prediction}`) : null,
  );
  return paintThumb(desk, node);
}

/** Show on a thumbnail what is decided about its example. */
export function paintThumb(desk, node) {
  const { decision, others } = desk.board.shown(node.dataset.thumbOf);
  const said = decision ?? others[0] ?? null;
  const chip = said ? el("span", { class: "hl-chip hl-chip-decided" }, told(said)) : null;
  node.querySelector(".hl-status").replaceChildren(...[chip].filter(Boolean));
  node.classList.toggle("hl-is-decided", said !== null);
  return node;
}
