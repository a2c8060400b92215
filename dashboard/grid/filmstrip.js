// The queue as a strip of thumbnails around the example that is large.

/** @import { Session } from "./session.js" */
/** @import { Target } from "./types.js" */
import { content } from "./cells.js";
import { el, keepFocus } from "./dom.js";
import { decisionText } from "./verdicts.js";

const BEFORE = 6;
const AFTER = 18;

export class Filmstrip {
  /** @param {Session} session */
  constructor(session) {
    this.session = session;
    /** By id, the item and its button, kept while it is near. @type {Map<string, Item>} */
    this.items = new Map();
    this.node = el("ol", { class: "hl-queue", "aria-label": "The queue" });
  }

  draw() {
    const { cells, focus, here } = this.session;
    const near = cells.slice(Math.max(0, focus - BEFORE), focus + AFTER);
    this.items = new Map(near.map((entry) => [entry.cell.id, this.items.get(entry.cell.id) ?? this.item(entry)]));
    const hadFocus = this.node.contains(document.activeElement);
    this.node.replaceChildren(...[...this.items.values()].map(({ node }) => node));
    this.session.hub.thumbnails.ahead(cells.slice(focus + AFTER, focus + 2 * AFTER).map(({ cell }) => cell));
    for (const [id, { button }] of this.items) {
      const isHere = id === here?.id;
      button.setAttribute("aria-current", String(isHere));
      button.tabIndex = isHere ? 0 : -1;
      if (isHere && hadFocus) button.focus({ preventScroll: true });
    }
    this.paint();
  }

  /** @typedef {{node: HTMLElement, button: HTMLElement, status: HTMLElement}} Item */

  /** @param {Target} entry @returns {Item} */
  item({ cell, place }) {
    const { session } = this;
    const go = () => {
      const at = session.cells.findIndex((entry) => entry.cell.id === cell.id);
      if (at >= 0) session.goTo(at);
    };
    const status = el("span", { class: "hl-status" });
    const button = el(
      "button",
      {
        type: "button",
        class: "hl-item",
        title: cell.id,
        "aria-label": `${place + 1}: label ${cell.label ?? "none"}`,
        data: { exampleId: cell.id },
        on: { click: go, mousedown: keepFocus },
      },
      el("span", { class: "hl-picture" }, content(cell, session.hub.thumbnails), status),
    );
    return { node: el("li", {}, button), button, status };
  }

  /** Shows the decisions on all items or on those of some ids. @param {string[] | null} [ids] */
  paint(ids = null) {
    const { decisions, hub } = this.session;
    for (const [id, { button, status }] of this.items) {
      if (ids && !ids.includes(id)) continue;
      const { decision, others, flag, saving } = decisions.shown(id);
      const latest = decision ?? others[0] ?? null;
      const chips = [];
      if (latest) chips.push(el("span", { class: "hl-chip hl-chip-decided" }, decisionText(latest)));
      if (flag) chips.push(el("span", { class: "hl-chip hl-chip-flagged" }, hub.glyphs.flagged));
      status.replaceChildren(...chips);
      button.classList.toggle("hl-is-decided", latest !== null);
      button.classList.toggle("hl-is-saving", saving);
    }
  }
}
