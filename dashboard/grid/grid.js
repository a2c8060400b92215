// The grid of one page: cells in panels, focus, selection, keys. Nothing here runs the page while somebody decides.

/** @import { Cell, GridData, Memory, Panel, Target } from "./types.js" */
/** @import { Hub } from "./hub.js" */
import { act } from "./actions.js";
import { drawCell, paint } from "./cells.js";
import { legend } from "./dialogs.js";
import { closest, el } from "./dom.js";
import { ExampleDialog } from "./example_dialog.js";
import { HeldAction } from "./held_action.js";
import { actionKey, fieldTakes, isHeld, presses } from "./keys.js";
import { TimeOnScreen } from "./time_on_screen.js";
import { Toolbar } from "./toolbar.js";
import { verticalMove } from "./vertical_move.js";

const NARROW = 92; // pixels
const AHEAD_AFTER = 150; // milliseconds: this page's pictures come first

/**
 * A cell and its node; `same` is equal for cells that look the same.
 * @typedef {{cell: Cell, node: HTMLElement, panel: number, place: number, same: string}} Entry
 */

export class Grid {
  /**
   * @param {HTMLElement} parent
   * @param {Hub} hub what all grids of this page share
   * @param {Memory} memory outlives a remount of this grid
   * @param {GridData} data
   */
  constructor(parent, hub, memory, data) {
    this.parent = parent;
    this.hub = hub;
    this.memory = memory;
    this.data = data;
    this.labels = data.classes;
    this.queue = hub.queue;
    this.decisions = hub.decisions;
    /** In reading order, through all panels. @type {Entry[]} */
    this.cells = [];
    this.focus = memory.focus ?? 0;
    this.since = Date.now();
    /** Where a range that is being selected starts. @type {number | null} */
    this.anchor = null;
    this.selected = new Set(memory.selected ?? []);
    /** Examples that a dialog shows, which are in no panel. @type {Cell[]} */
    this.guests = [];
    /** Turns the page; null where it cannot. @type {((by: number) => void) | null} */
    this.turn = null;
    this.isViewing = false;
    /** @type {number | undefined} */
    this.later = undefined;
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
    this.held = new HeldAction(this);
    this.exampleDialog = new ExampleDialog(this);
    this.timeOnScreen = new TimeOnScreen();
    this.sizes = new ResizeObserver(() => this.fit());
    this.sizes.observe(this.panels);
  }

  /**
   * Draws what Streamlit sent; cells that are the same stay the same nodes, so focus and pictures survive a rerun.
   * @param {GridData} data
   * @param {((by: number) => void) | null} turn
   */
  update(data, turn) {
    this.turn = turn;
    const focusedId = this.cells[this.focus]?.cell.id ?? this.memory.id;
    const hadFocus =
      this.memory.focused && (document.activeElement === document.body || this.root.contains(document.activeElement));
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
    if (hadFocus && !this.exampleDialog.isOpen && !this.layer.querySelector("dialog[open]")) this.focusCell(false);
    if (this.exampleDialog.isOpen && at < 0) this.exampleDialog.dialog.close();
    this.hub.watch();
    this.repaint();
    clearTimeout(this.later);
    if (data.ahead.length) this.later = setTimeout(() => this.hub.thumbnails.fetchAhead(data.ahead), AHEAD_AFTER);
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
    this.timeOnScreen.end();
    this.exampleDialog.remove();
    this.root.remove();
  }

  /** @param {Panel} panel @param {number} at @param {Map<string, Entry>} known */
  drawPanel(panel, at, known) {
    const { columns } = this.data;
    const cells = panel.cells.map((cell, place) => this.entry(cell, at, place, known));
    this.cells.push(...cells);
    const rows = [];
    for (let from = 0; from < cells.length; from += columns) {
      const nodes = cells.slice(from, from + columns).map((entry) => entry.node);
      rows.push(el("div", { class: "hl-row", role: "row" }, nodes));
    }
    const label = panel.title || "Examples";
    return el(
      "section",
      { class: "hl-panel" },
      el("h3", { class: "hl-title" }, panel.title ?? ""),
      el("p", { class: "hl-quiet" }, panel.note ?? ""),
      cells.length
        ? el("div", { class: "hl-cells", role: "grid", "aria-label": label, "aria-multiselectable": "true" }, rows)
        : el("p", { class: "hl-empty" }, "No example is here; widen the filters."),
    );
  }

  /**
   * @param {Cell} cell
   * @param {number} panel
   * @param {number} place
   * @param {Map<string, Entry>} known
   * @returns {Entry}
   */
  entry(cell, panel, place, known) {
    const same = `${panel}|${JSON.stringify(cell)}`;
    const old = known.get(same);
    if (old) {
      known.delete(same);
      return Object.assign(old, { cell, place });
    }
    const node = drawCell(cell, this.hub.glyphs, this.hub.thumbnails, {
      pointerdown: (event) => event.button === 0 && this.click(entry, event),
      dblclick: () => this.open(),
    });
    const entry = { cell, panel, place, same, node };
    this.timeOnScreen.watch(node, cell.id);
    return entry;
  }

  // -- focus and selection ------------------------------------------------------------------------------------------

  /** @param {number} at */
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

  /** Whether the example in focus is in view. */
  inView() {
    const box = this.cells[this.focus]?.node.getBoundingClientRect();
    return box !== undefined && box.top >= 0 && box.top + box.height / 2 <= innerHeight;
  }

  /** @param {FocusEvent} event */
  tookFocus(event) {
    this.hub.active = this;
    this.memory.focused = true;
    if (this.isViewing) return; // a closing dialog gives the focus back to where it came from, not to where it got
    const at = this.cells.findIndex((entry) => entry.node === event.target);
    if (at >= 0 && at !== this.focus) this.setFocus(at);
  }

  /** The focus went elsewhere; a grid that its page has just taken away will have it again. */
  lostFocus() {
    if (this.root.isConnected) this.memory.focused = this.root.contains(document.activeElement);
  }

  /**
   * Focuses the example at a place; false where there is none.
   * @param {number} at
   * @param {{reveal?: boolean, extend?: boolean}} [options]
   */
  moveTo(at, { reveal = true, extend = false } = {}) {
    if (!this.cells[at]) return false;
    const from = extend ? (this.anchor ?? this.focus) : null;
    this.anchor = from;
    this.setFocus(at);
    if (from !== null) this.selectRange(from, at);
    if (reveal) this.focusCell();
    return true;
  }

  /** @param {Entry} entry @param {PointerEvent} event */
  click(entry, event) {
    event.preventDefault(); // no text selection, no dragging of the picture
    const at = this.cells.indexOf(entry);
    const from = this.anchor ?? this.focus;
    const isTick = closest(event, ".hl-tick") !== null;
    this.setFocus(at);
    this.focusCell(false);
    if (event.shiftKey) {
      this.anchor = from;
      this.selectRange(from, at);
      return;
    }
    this.anchor = null;
    if (event.ctrlKey || event.metaKey || isTick) this.toggle(entry.cell.id);
  }

  /** @param {number} from @param {number} to */
  selectRange(from, to) {
    const [first, last] = from < to ? [from, to] : [to, from];
    this.select(this.cells.slice(first, last + 1).map((entry) => entry.cell.id));
  }

  clearSelection() {
    this.anchor = null;
    this.select([]);
  }

  /** @param {string | undefined} id */
  toggle(id) {
    if (id === undefined) return;
    this.anchor = null;
    if (!this.selected.delete(id)) this.selected.add(id);
    this.select([...this.selected]);
  }

  /** @param {string[]} ids */
  select(ids) {
    this.selected = new Set(ids);
    this.memory.selected = [...this.selected];
    for (const { cell, node } of this.cells) node.setAttribute("aria-selected", String(this.selected.has(cell.id)));
    this.toolbar.drawCount();
  }

  /** A selection is of what can be seen: a page turn ends it, a rerun does not. */
  keepSelection() {
    const here = new Set(this.cells.map((entry) => entry.cell.id));
    this.select([...this.selected].filter((id) => here.has(id)));
  }

  // -- keys ---------------------------------------------------------------------------------------------------------

  /** A key pressed anywhere in the grid. @param {KeyboardEvent} event */
  key(event) {
    if (event.defaultPrevented || event.altKey || closest(event, "dialog") || fieldTakes(event)) return;
    if (presses(event)) return;
    const selects = event.key === " "; // moves in a session, selects here
    if (!isHeld(event) && !(event.repeat && selects) && !this.moveKey(event) && !this.actionKey(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {KeyboardEvent} event */
  moveKey(event) {
    const command = event.ctrlKey || event.metaKey;
    if (command && event.key.toLowerCase() === "a") this.select(this.cells.map((entry) => entry.cell.id));
    else if (command) return false;
    else if (event.key === "Escape") this.clearSelection();
    else if (event.key === " ") this.toggle(this.cells[this.focus]?.cell.id);
    else if (event.key === "Enter") this.open();
    else if (event.key === "PageDown" || event.key === "PageUp")
      return this.turnPage(event.key === "PageDown" ? 1 : -1);
    else {
      const at = this.destination(event.key);
      if (at === null) return false;
      this.moveTo(Math.max(0, Math.min(this.cells.length - 1, at)), { extend: event.shiftKey });
    }
    return true;
  }

  /**
   * Where a key leads: sideways in reading order, up and down to the same column of the next row; null for other keys.
   * @param {string} key
   */
  destination(key) {
    if (key === "ArrowRight") return this.focus + 1;
    if (key === "ArrowLeft") return this.focus - 1;
    if (key === "Home") return 0;
    if (key === "End") return this.cells.length - 1;
    if (key !== "ArrowDown" && key !== "ArrowUp") return null;
    const entry = this.cells[this.focus];
    if (!entry) return null;
    const { columns, panels } = this.data;
    const sizes = panels.map((panel) => panel.cells.length);
    return verticalMove(sizes, columns, entry.panel, entry.place, key === "ArrowDown") ?? this.focus;
  }

  /** @param {number} by */
  turnPage(by) {
    if (!this.data.turns || !this.turn) return false;
    this.turn(by);
    return true;
  }

  /** @param {KeyboardEvent} event */
  actionKey(event) {
    return actionKey(this, event);
  }

  // -- acting -------------------------------------------------------------------------------------------------------

  /**
   * The examples that an action is about: in the opened example that one, else the selection, else the focus.
   * @returns {Target[]}
   */
  targets() {
    if (!this.exampleDialog.isOpen && this.selected.size) {
      const once = new Map(); // an example may lie in several panels
      for (const entry of this.cells)
        if (this.selected.has(entry.cell.id) && !once.has(entry.cell.id)) once.set(entry.cell.id, entry);
      return [...once.values()];
    }
    const entry = (this.exampleDialog.isOpen && this.exampleDialog.guest) || this.cells[this.focus];
    return entry ? [entry] : [];
  }

  /** What an opened example still lacks on screen. Cells wait for nothing: their evidence says how long they were
   * seen. */
  get missing() {
    return this.exampleDialog.isOpen ? this.exampleDialog.missing : null;
  }

  /** @param {string} name @param {string} [value] */
  act(name, value) {
    return this.held.takes(name, value) ? undefined : act(this, name, value);
  }

  /** Seconds that an example has been on screen. @param {string} id */
  onScreen(id) {
    return this.timeOnScreen.seconds(id);
  }

  open() {
    const entry = this.cells[this.focus];
    if (!entry) return;
    this.isViewing = true;
    this.exampleDialog.open(entry.cell);
  }

  /**
   * Opens an example that is in no panel, one of some: the arrows lead to the others.
   * @param {Cell} cell
   * @param {Cell[]} cells
   */
  openGuest(cell, cells) {
    this.isViewing = true;
    this.exampleDialog.openGuest(cell, cells);
  }

  /** Follows the decisions about examples that are in no panel. @param {Cell[]} cells */
  follow(cells) {
    this.guests = cells;
    this.hub.watch();
  }

  dialogClosed() {
    this.isViewing = false;
    this.focusCell();
  }

  /** Shows the decisions, on all cells or on those of some ids. @param {string[] | null} [ids] */
  repaint(ids = null) {
    const these = ids ? new Set(ids) : null;
    for (const { cell, node } of this.cells)
      if (!these || these.has(cell.id)) paint(node, this.decisions.shown(cell.id), this.hub.glyphs);
    if (this.exampleDialog.isOpen) this.exampleDialog.paint();
    this.toolbar.drawStatus();
  }
}
