// Cards of slices: accuracy, labels against predictions, the middle, the strongest opponents. A click opens the slice.

import { content } from "./cells.js";
import { el } from "./dom.js";
import { Pictures } from "./pictures.js";

const pictures = new Pictures();

/** One bar of a histogram: how many of `longest`, with its mark. */
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

function histogram({ rows, longest, rest }, marks) {
  const line = ([name, labels, predictions]) =>
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
  return el(
    "div",
    { class: "hl-histogram" },
    el("table", {}, rows.map(line)),
    rest ? el("p", { class: "hl-quiet" }, rest) : null,
  );
}

/** Label and, where it differs, prediction, with their marks. */
function said(cell, marks) {
  const ink = (role, text) => [
    el("span", { class: `hl-ink-${role}`, "aria-hidden": "true" }, marks[role].mark),
    ` ${text} `,
  ];
  const line = (role, text) => el("span", { class: "hl-under" }, ...ink(role, text));
  return [line("label", cell.label ?? "–"), cell.wrong ? line("wrong", cell.prediction) : null];
}

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
    el("span", { class: "hl-picture" }, content(cell, pictures)),
    cell.influence ? el("span", { class: "hl-influence" }, cell.influence) : null,
    ...said(cell, marks),
  );
}

function strip(title, cells, none, marks) {
  return el(
    "div",
    { class: "hl-minis" },
    el("p", { class: "hl-quiet" }, cells.length ? title : none),
    el("div", { class: "hl-ministrip" }, cells.map((cell) => thumb(cell, marks))),
  );
}

function card(one, marks, open) {
  const address = new URL(window.location.href);
  address.searchParams.set("slice", one.id);
  const click = (event) => {
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
    one.metadata.length ? el("ul", { class: "hl-meta" }, one.metadata.map((text) => el("li", {}, text))) : null,
    strip("Nearest its centre", one.nearest, "No example is near its centre.", marks),
    strip("Strongest opponents in training", one.opponents, "No training example harms it.", marks),
  );
}

export default function mount({ data, parentElement, setTriggerValue }) {
  const open = (id) => setTriggerValue("open", id);
  const cards = data.cards.map((one) => card(one, data.marks, open));
  const root = el("div", { class: "hl-root hl-cards", data: { testid: "slice-cards" } }, cards);
  parentElement.querySelector(":scope > .hl-cards")?.remove();
  parentElement.append(root);
  return () => root.remove();
}
