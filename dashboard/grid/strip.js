// The queue as a strip of thumbnails around the example that is large.

import { content } from "./cells.js";
import { el } from "./dom.js";
import { told } from "./words.js";

const BEFORE = 6;
const AFTER = 18;

export class Strip {
  constructor(desk) {
    this.desk = desk;
    this.nodes = new Map(); // id → node, kept while it is near
    this.node = el("ol", { class: "hl-queue", "aria-label": "The queue" });
  }

  draw() {
    const { cells, focus } = this.desk;
    const from = Math.max(0, focus - BEFORE);
    const near = cells.slice(from, focus + AFTER);
    const kept = new Map(near.map((entry) => [entry.cell.id, this.nodes.get(entry.cell.id) ?? this.item(entry)]));
    this.nodes = kept;
    const hadFocus = this.node.contains(document.activeElement);
    this.node.replaceChildren(...kept.values());
    this.desk.hub.pictures.ahead(cells.slice(focus + AFTER, focus + 2 * AFTER).map(({ cell }) => cell));
    for (const [id, node] of kept) {
      const here = id === cells[focus].cell.id;
      node.firstChild.setAttribute("aria-current", String(here));
      node.firstChild.tabIndex = here ? 0 : -1;
      if (here && hadFocus) node.firstChild.focus({ preventScroll: true });
    }
    this.paint();
  }

  item({ cell, place }) {
    const go = () => {
      const at = this.desk.cells.findIndex((entry) => entry.cell.id === cell.id);
      if (at >= 0) this.desk.goTo(at);
    };
    return el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "hl-item",
          title: cell.id,
          "aria-label": `${place + 1}: label ${cell.label ?? "none"}`,
          data: { exampleId: cell.id },
          on: { click: go, mousedown: (event) => event.preventDefault() },
        },
        el("span", { class: "hl-picture" }, content(cell, this.desk.hub.pictures), el("span", { class: "hl-status" })),
      ),
    );
  }

  /** Show what is decided. */
  paint(ids) {
    for (const [id, node] of this.nodes) {
      if (ids && !ids.includes(id)) continue;
      const { decision, others, flag, saving } = this.desk.board.shown(id);
      const said = decision ?? others[0] ?? null;
      const chips = [];
      if (said) chips.push(el("span", { class: "hl-chip hl-chip-decided" }, told(said)));
      if (flag) chips.push(el("span", { class: "hl-chip hl-chip-flagged" }, this.desk.hub.glyphs.flagged));
      node.querySelector(".hl-status").replaceChildren(...chips);
      node.firstChild.classList.toggle("hl-is-decided", said !== null);
      node.firstChild.classList.toggle("hl-is-saving", saving);
    }
  }
}
