// Cards of slices: accuracy, labels against predictions, the examples nearest the centre, the strongest opponents. A
// click opens the slice.

/** @import { Cell, Component, Marks, RoleName } from "./types.js" */
import { content } from "./cells.js";
import { el, quiet } from "./dom.js";
import { ThumbnailCache } from "./thumbnail_cache.js";

/**
 * A card as Python sends it (`show_cards`).
 * @typedef {object} Card
 * @property {number} id
 * @property {string} title
 * @property {string} accuracy
 * @property {string} interval
 * @property {string} facts
 * @property {string} spread
 * @property {string} spread_help
 * @property {[name: string, labels: number, predictions: number][]} rows
 * @property {number} longest
 * @property {string} rest
 * @property {string[]} metadata
 * @property {Cell[]} nearest
 * @property {Cell[]} opponents
 */

const thumbnails = new ThumbnailCache();

/**
 * One bar of a histogram: how many of `longest`, with its mark.
 * @type {(role: RoleName, mark: string, n: number, longest: number) => HTMLElement}
 */
function bar(role, mark, n, longest) {
  const fill = el("span", { class: `hl-fill hl-fill-${role}` });
  fill.style.setProperty("--share", String(n / longest));
  if (!n) fill.style.minWidth = "0";
  return el(
    "span",
    { class: "hl-pair" },
    el("span", { class: `hl-ink-${role}`, "aria-hidden": "true" }, mark),
    el("span", { class: "hl-lane" }, fill),
    el("span", { class: "hl-figure" }, String(n)),
  );
}

/** Labels and predictions of a slice by class. @param {Card} card @param {Marks} marks */
function histogram({ rows, longest, rest }, marks) {
  const line = (/** @type {Card["rows"][number]} */ [name, labels, predictions]) =>
    el(
      "tr",
      { title: `${name}: ${labels} labels, ${predictions} predictions` },
      el("th", { scope: "row" }, name),
      el(
        "td",
        {},
        bar("label", marks.label.mark, labels, longest),
        bar("prediction", marks.prediction.mark, predictions, longest),
      ),
    );
  return el("div", { class: "hl-histogram" }, el("table", {}, rows.map(line)), rest ? quiet(rest) : null);
}

/**
 * A class under a picture, with the mark of its role.
 * @param {string} role
 * @param {string} mark
 * @param {string} text
 */
const labelLine = (role, mark, text) =>
  el("span", { class: "hl-under" }, el("span", { class: `hl-ink-${role}`, "aria-hidden": "true" }, mark), ` ${text} `);

/** A picture with its label and, where it differs, its prediction. @param {Cell} cell @param {Marks} marks */
function thumb(cell, marks) {
  const facts = [
    cell.influence ? `influence ${cell.influence}` : null,
    `label: ${cell.label ?? "none"}`,
    cell.prediction === null ? null : `prediction: ${cell.prediction}`,
    cell.id,
  ];
  return el(
    "span",
    { class: "hl-mini", title: facts.filter(Boolean).join("\n") },
    el("span", { class: "hl-picture" }, content(cell, thumbnails)),
    cell.influence ? el("span", { class: "hl-influence" }, cell.influence) : null,
    labelLine("label", marks.label.mark, cell.label ?? "–"),
    cell.wrong ? labelLine("wrong", marks.wrong.mark, cell.prediction ?? "–") : null,
  );
}

/** @type {(title: string, cells: Cell[], none: string, marks: Marks) => HTMLElement} */
function strip(title, cells, none, marks) {
  return el(
    "div",
    { class: "hl-minis" },
    quiet(cells.length ? title : none),
    el(
      "div",
      { class: "hl-ministrip" },
      cells.map((cell) => thumb(cell, marks)),
    ),
  );
}

/** @param {Card} one @param {Marks} marks @param {(id: number) => void} open */
function drawCard(one, marks, open) {
  const address = new URL(location.href);
  address.searchParams.set("slice", String(one.id));
  const click = (/** @type {MouseEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a tab or a window of its own
    event.preventDefault();
    open(one.id);
  };
  return el(
    "a",
    {
      class: "hl-card",
      href: address.pathname + address.search,
      "aria-label": `${one.title}, ${one.accuracy}, ${one.facts}`,
      data: { slice: String(one.id) },
      on: { click },
    },
    el(
      "header",
      {},
      el("h3", {}, one.title),
      el("strong", { title: one.interval }, one.accuracy),
      el("span", { class: "hl-quiet" }, one.interval),
    ),
    el("p", {}, one.facts, " · ", el("span", { title: one.spread_help }, one.spread)),
    histogram(one, marks),
    one.metadata.length
      ? el(
          "ul",
          { class: "hl-meta" },
          one.metadata.map((text) => el("li", {}, text)),
        )
      : null,
    strip("Nearest its centre", one.nearest, "No example is near its centre.", marks),
    strip("Strongest opponents in training", one.opponents, "No training example has a negative influence.", marks),
  );
}

/** @param {Component<{cards: Card[], marks: Marks}>} component */
export default function mount({ data, parentElement, setTriggerValue }) {
  const open = (/** @type {number} */ id) => setTriggerValue("open", id);
  const cards = data.cards.map((one) => drawCard(one, data.marks, open));
  const root = el("div", { class: "hl-root hl-cards", data: { testid: "slice-cards" } }, cards);
  parentElement.querySelector(":scope > .hl-cards")?.remove();
  parentElement.append(root);
  return () => root.remove();
}
