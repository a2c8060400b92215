// The grid of one page: cells in panels, focus, selection, keys. It never asks Streamlit for anything while deciding.

import { act } from "./acts.js";
import { drawCell, paint } from "./cells.js";
import { legend } from "./dialogs.js";
import { el } from "./dom.js";
import { actionKey, fieldTakes, isHeld, presses } from "./keys.js";
import { Sight } from "./sight.js";
import { Toolbar } from "./toolbar.js";
import { Viewer } from "./viewer.js";

const NARROW = 92; // pixels
const AHEAD_AFTER = 150; // milliseconds: this page's pictures come first

export class Grid {
  /** `hub` is what all grids of this page share; `memory` outlives a remount of this one. */
  constructor(parent, hub, memory) {
    Object.assign(this, { parent, hub, memory });
    this.queue = hub.queue;
    this.board = hub.board;
    this.cells = []; // [{cell, node, panel, place}] in reading order, through all panels
    this.focus = memory.focus ?? 0;
    this.selected = new Set(memory.selected ?? []);
    this.guests = []; // examples that a dialog shows, which are in no panel
    this.toolbar = new Toolbar(this);
    this.panels = el("div", { class: "hl-panels" });
    this.layer = el("div", { class: "hl-layer" });
    this.root = el(
      "div",
      {
        class: "hl-root",
        data: { testid: "example-grid" },
        on: {
          keydown: (event) => this.key(event),
          focusin: (event) => this.tookFocus(event),
          focusout: () => queueMicrotask(() => this.lostFocus()),
        },
      },
      this.toolbar.node,
      this.panels,
      legend(hub.marks),
      this.layer,
    );
    parent.append(this.root);
    this.viewer = new Viewer(this);
    this.sight = new Sight();
    this.sizes = new ResizeObserver(() => this.fit());
    this.sizes.observe(this.panels);
  }

  /** Draw what Streamlit sent; cells that are the same stay the same nodes, so focus and pictures survive a rerun. */
  update(data, turn) {
    this.turn = turn;
    const focusedId = this.cells[this.focus]?.cell.id ?? this.memory.id;
    const hadFocus =
      this.memory.focused &&
      (document.activeElement === document.body || this.root.contains(document.activeElement));
    this.data = data;
    this.labels = data.classes;
    const known = new Map(this.cells.map((entry) => [entry.same, entry]));
    this.cells = [];
    this.panels.style.setProperty("--columns", String(data.columns));
    this.panels.classList.toggle("hl-stacked", data.layout === "stack");
    this.panels.replaceChildren(...data.panels.map((panel, at) => this.drawPanel(panel, at, known)));
    this.keepSelection();
    const at = this.cells.findIndex((entry) => entry.cell.id === focusedId);
    this.setFocus(at >= 0 ? at : 0);
    if (hadFocus && !this.viewer.isOpen && !this.layer.querySelector("dialog[open]")) this.focusCell(false);
    if (this.viewer.isOpen && at < 0) this.viewer.dialog.close();
    this.hub.watch();
    this.repaint();
    clearTimeout(this.later);
    if (data.ahead?.length) this.later = setTimeout(() => this.hub.pictures.fetchAhead(data.ahead), AHEAD_AFTER);
  }

  /** Smaller letters where cells are narrow. */
  fit() {
    const width = this.cells[0]?.node.clientWidth ?? 0;
    this.panels.classList.toggle("hl-narrow", width > 0 && width < NARROW);
  }

  /** The grid is gone from the page. */
  remove() {
    this.sizes.disconnect();
    clearTimeout(this.later);
    this.sight.end();
    this.root.remove();
  }

  drawPanel(panel, at, known) {
    const cells = panel.cells.map((cell, place) => this.entry(cell, at, place, known));
    this.cells.push(...cells);
    const rows = [];
    for (let from = 0; from < cells.length; from += this.data.columns)
      rows.push(
        el(
          "div",
          { class: "hl-row", role: "row" },
          cells.slice(from, from + this.data.columns).map((entry) => entry.node),
        ),
      );
    const title = panel.title || "Examples";
    return el(
      "section",
      { class: "hl-panel" },
      el("h3", { class: "hl-title" }, panel.title ?? ""),
      el("p", { class: "hl-quiet" }, panel.note ?? ""),
      cells.length
        ? el(
            "div",
            { class: "hl-cells", role: "grid", "aria-label": title, "aria-multiselectable": "true" },
            rows,
          )
        : el("p", { class: "hl-empty" }, "No example is here; widen the filters."),
    );
  }

  entry(cell, panel, place, known) {
    const same = `${panel}|${JSON.stringify(cell)}`;
    const old = known.get(same);
    if (old) {
      known.delete(same);
      return Object.assign(old, { cell, place });
    }
    const entry = { cell, panel, place, same };
    entry.node = drawCell(cell, this.hub.glyphs, this.hub.pictures, {
      pointerdown: (event) => event.button === 0 && this.click(entry, event),
      dblclick: () => this.open(),
    });
    this.sight.watch(entry.node, cell.id);
    return entry;
  }

  // -- focus and selection ------------------------------------------------------------------------------------------

  setFocus(at) {
    this.cells[this.focus]?.node.setAttribute("tabindex", "-1");
    this.focus = at;
    const entry = this.cells[at];
    entry?.node.setAttribute("tabindex", "0");
    Object.assign(this.memory, { focus: at, id: entry?.cell.id });
    this.since = Date.now();
  }

  focusCell(scroll = true) {
    const node = this.cells[this.focus]?.node;
    node?.focus({ preventScroll: true });
    if (scroll) node?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Whether the example in focus can be seen. */
  inSight() {
    const box = this.cells[this.focus]?.node.getBoundingClientRect();
    return box !== undefined && box.top >= 0 && box.top + box.height / 2 <= innerHeight;
  }

  tookFocus(event) {
    this.hub.active = this;
    this.memory.focused = true;
    if (this.viewing) return; // a closing dialog hands the focus back to where it came from, not to where it got
    const at = this.cells.findIndex((entry) => entry.node === event.target);
    if (at >= 0 && at !== this.focus) this.setFocus(at);
  }

  /** The focus went elsewhere; a grid that its page has just taken away will have it again. */
  lostFocus() {
    if (this.root.isConnected) this.memory.focused = this.root.contains(document.activeElement);
  }

  /** Focus the example at a place; false where there is none. */
  moveTo(at, { reveal = true, extend = false } = {}) {
    if (!this.cells[at]) return false;
    if (extend) this.anchor ??= this.focus;
    else this.anchor = null;
    this.setFocus(at);
    if (extend) this.selectRange(this.anchor, at);
    if (reveal) this.focusCell();
    return true;
  }

  click(entry, event) {
    event.preventDefault(); // no text selection, no dragging of the picture
    const at = this.cells.indexOf(entry);
    const from = this.anchor ?? this.focus;
    const ticked = event.target.closest(".hl-tick") !== null;
    this.setFocus(at);
    this.focusCell(false);
    if (event.shiftKey) {
      this.anchor = from;
      this.selectRange(from, at);
      return;
    }
    this.anchor = null;
    if (event.ctrlKey || event.metaKey || ticked) this.toggle(entry.cell.id);
  }

  selectRange(from, to) {
    const [first, last] = from < to ? [from, to] : [to, from];
    this.select(this.cells.slice(first, last + 1).map((entry) => entry.cell.id));
  }

  letGo() {
    this.anchor = null;
    this.select([]);
  }

  toggle(id) {
    this.anchor = null;
    if (!this.selected.delete(id)) this.selected.add(id);
    this.select([...this.selected]);
  }

  select(ids) {
    this.selected = new Set(ids);
    this.memory.selected = [...this.selected];
    for (const { cell, node } of this.cells)
      node.setAttribute("aria-selected", String(this.selected.has(cell.id)));
    this.toolbar.drawCount();
  }

  /** A selection is of what can be seen: a page turn ends it, a rerun does not. */
  keepSelection() {
    const here = new Set(this.cells.map((entry) => entry.cell.id));
    this.select([...this.selected].filter((id) => here.has(id)));
  }

  // -- keys ---------------------------------------------------------------------------------------------------------

  /** A key pressed anywhere in the grid. */
  key(event) {
    if (event.defaultPrevented || event.altKey || event.target.closest("dialog") || fieldTakes(event)) return;
    if (presses(event)) return;
    const selects = event.key === " "; // moves in a session, selects here
    if (!isHeld(event) && !(event.repeat && selects) && !this.moveKey(event) && !this.actionKey(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  moveKey(event) {
    const command = event.ctrlKey || event.metaKey;
    if (command && event.key.toLowerCase() === "a") this.select(this.cells.map((entry) => entry.cell.id));
    else if (command) return false;
    else if (event.key === "Escape") this.letGo();
    else if (event.key === " ") this.cells.length && this.toggle(this.cells[this.focus].cell.id);
    else if (event.key === "Enter") this.open();
    else if (event.key === "PageDown" || event.key === "PageUp")
      return this.turnPage(event.key === "PageDown" ? 1 : -1);
    else {
      const at = this.target(event.key);
      if (at === null) return false;
      this.moveTo(Math.max(0, Math.min(this.cells.length - 1, at)), { extend: event.shiftKey });
    }
    return true;
  }

  /** Where an arrow leads: sideways in reading order, up and down to the same column of the next row. */
  target(key) {
    const { columns, panels } = this.data;
    if (key === "ArrowRight") return this.focus + 1;
    if (key === "ArrowLeft") return this.focus - 1;
    if (key === "Home") return 0;
    if (key === "End") return this.cells.length - 1;
    if (key !== "ArrowDown" && key !== "ArrowUp") return null;
    const entry = this.cells[this.focus];
    if (!entry) return null;
    const down = key === "ArrowDown";
    const count = panels[entry.panel].cells.length;
    const lastRow = Math.floor((count - 1) / columns);
    const row = Math.floor(entry.place / columns) + (down ? 1 : -1);
    if (row >= 0 && row <= lastRow)
      return this.focus - entry.place + Math.min(row * columns + (entry.place % columns), count - 1);
    return this.otherPanel(entry, down) ?? this.focus;
  }

  /** The same column of the first row of the next panel, or of the last row of the one before. */
  otherPanel(entry, down) {
    const { columns, panels } = this.data;
    const step = down ? 1 : -1;
    let panel = entry.panel + step;
    while (panels[panel] && !panels[panel].cells.length) panel += step;
    if (!panels[panel]) return null;
    const count = panels[panel].cells.length;
    const row = down ? 0 : Math.floor((count - 1) / columns);
    const start = this.cells.findIndex((one) => one.panel === panel);
    return start + Math.min(row * columns + (entry.place % columns), count - 1);
  }

  turnPage(by) {
    if (!this.data.turns || !this.turn) return false;
    this.turn(by);
    return true;
  }

  actionKey(event) {
    return actionKey(this, event);
  }

  // -- acting -------------------------------------------------------------------------------------------------------

  /** The examples that an act is about: in the opened example that one, else the selection, else the focus. */
  targets() {
    if (!this.viewer.isOpen && this.selected.size) {
      const seen = new Set();
      return this.cells.filter(
        ({ cell }) => this.selected.has(cell.id) && !seen.has(cell.id) && seen.add(cell.id),
      );
    }
    const entry = (this.viewer.isOpen && this.viewer.guest) || this.cells[this.focus];
    return entry ? [entry] : [];
  }

  act(name, value) {
    return act(this, name, value);
  }

  /** Seconds that an example has been on screen. */
  onScreen(id) {
    return this.sight.seconds(id);
  }

  open() {
    const entry = this.cells[this.focus];
    if (!entry) return;
    this.viewing = true;
    this.viewer.open(entry.cell);
  }

  /** Open an example that is in no panel, one of some: the arrows lead to the others. */
  openGuest(cell, cells) {
    this.viewing = true;
    this.viewer.openGuest(cell, cells);
  }

  /** Follow what is decided about examples that are in no panel. */
  follow(cells) {
    this.guests = cells;
    this.hub.watch();
  }

  viewerClosed() {
    this.viewing = false;
    this.focusCell();
  }

  /** Show what is decided, on all cells or on those of some ids. */
  repaint(ids) {
    const these = ids ? new Set(ids) : null;
    for (const { cell, node } of this.cells)
      if (!these || these.has(cell.id)) paint(node, cell, this.board.shown(cell.id), this.hub.glyphs);
    if (this.viewer.isOpen) this.viewer.paint();
    this.toolbar.drawStatus();
  }
}
