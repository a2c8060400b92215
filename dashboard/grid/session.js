// A session: one example large, the queue as a strip above it, what helps to decide beside it. A decision advances by
// itself to the next example that its reviewer has not decided; pictures and facts of the next ones are there already.
// It offers what `actions.js` needs of a grid, so that every key does the same here and there.

/** @import { Cell, LookalikesAnswer, Memory, RecordedEvent, SessionData, Target } from "./types.js" */
/** @import { Hub } from "./hub.js" */
import { act } from "./actions.js";
import { Clock } from "./clock.js";
import { legend } from "./dialogs.js";
import { closest, el } from "./dom.js";
import { ExampleDialog } from "./example_dialog.js";
import { Filmstrip } from "./filmstrip.js";
import { grouped } from "./format.js";
import { HeldAction } from "./held_action.js";
import { address, request } from "./http.js";
import { actionKey, fieldTakes, isHeld, presses } from "./keys.js";
import { reviewLookalikes } from "./lookalikes.js";
import { QueueWindow } from "./queue_window.js";
import { moveKey, pictureKey } from "./session_keys.js";
import { SessionLocks } from "./session_locks.js";
import { SessionTools } from "./session_tools.js";
import { SidePanel } from "./side_panel.js";
import { TimeOnScreen } from "./time_on_screen.js";
import { Toolbar } from "./toolbar.js";
import { Viewport } from "./viewport.js";

const AHEAD = 5; // pictures that are decoded ahead
const PREVIEWS = 24; // thumbnails that are
const FACTS = 12; // examples whose facts are read ahead
const FACTS_LEFT = 4; // fewer than these are ready, and more are read
const PLACE = "at";
const LOCKED = 8; // examples that are kept from others at once
const SAVED_WITHIN = 8000; // milliseconds
const JUST_ARRIVED = 1000; // milliseconds within which nobody has yet judged what is on screen
const TYPED = "textarea, [contenteditable='true'], input:not([type='radio'], [type='checkbox'], [type='range'])";

export class Session {
  /**
   * @param {HTMLElement} parent
   * @param {Hub} hub
   * @param {Memory} memory
   * @param {SessionData} data
   */
  constructor(parent, hub, memory, data) {
    this.parent = parent;
    this.hub = hub;
    this.memory = memory;
    this.data = data;
    this.labels = data.classes;
    this.queue = hub.queue;
    this.decisions = hub.decisions;
    this.window = new QueueWindow();
    /** @type {Cell[]} */
    this.guests = [];
    /** By place, the examples outside the queue whose decisions are followed. @type {Map<"dialog" | "side", Cell[]>} */
    this.followed = new Map();
    /** Always empty: a session has one example at a time. @type {Set<string>} */
    this.selected = new Set();
    this.focus = 0;
    this.since = Date.now();
    /** How many are left to decide; null where it is not known. @type {number | null} */
    this.left = null;
    /** The example on screen, or on its way there. @type {string | null} */
    this.onStage = null;
    this.timeOnScreen = new TimeOnScreen();
    this.held = new HeldAction(this);
    /** Undos that are not shown yet. */
    this.undos = 0;
    this.greeted = false;
    /** @type {number | undefined} */
    this.rest = undefined;
    this.locks = new SessionLocks(this);
    /** Whether the next example is not shown yet, because somebody else may be at it. */
    this.isWaiting = false;
    this.isLed = true;
    this.toolbar = new Toolbar(this);
    this.filmstrip = new Filmstrip(this);
    this.viewport = new Viewport(
      this,
      () => this.tools.draw(),
      (cell) => this.pictureCame(cell),
    );
    this.sidePanel = new SidePanel(this);
    this.note = el("p", { class: "hl-quiet hl-place", role: "status", data: { testid: "session-place" } });
    this.clock = new Clock(this);
    this.tools = new SessionTools(this);
    this.layer = el("div", { class: "hl-layer" });
    this.root = this.makeRoot();
    parent.append(this.root);
    this.exampleDialog = new ExampleDialog(this);
    this.activate();
  }

  /** Stray keys of the page come here from now on. */
  activate() {
    this.hub.active = this;
  }

  makeRoot() {
    const middle = el("div", { class: "hl-middle" }, this.viewport.node, this.tools.node);
    return el(
      "div",
      {
        class: "hl-root hl-session",
        data: { testid: "review-session" },
        on: { keydown: (event) => this.key(event), focusin: () => this.activate() },
      },
      this.toolbar.node,
      el("div", { class: "hl-line1" }, this.note, this.clock.node),
      this.filmstrip.node,
      el("div", { class: "hl-desk" }, middle, this.sidePanel.node),
      legend(this.hub.marks),
      this.layer,
    );
  }

  /** The current cell; null in an empty window. */
  get here() {
    return this.cells[this.focus]?.cell ?? null;
  }

  /** The cells of the queue that the page sent. */
  get cells() {
    return this.window.cells;
  }

  /**
   * Takes the window that Streamlit sent; whoever is deciding stays where they are.
   * @param {SessionData} data
   * @param {((by: number) => void) | null} turn
   */
  update(data, turn) {
    const own = this.here?.id ?? this.memory.id;
    const isMoved = this.window.take(data, turn);
    this.data = data;
    this.labels = data.classes;
    if (isMoved && this.window.wanted === null) this.held.drop();
    const start = this.startOf(data.at, own, isMoved);
    this.window.wanted = null;
    this.left ??= data.left;
    if (data.reason && !this.greeted) this.toolbar.showMessage(data.reason);
    this.greeted ||= Boolean(data.reason);
    this.hub.watch();
    const isOpening = this.onStage === null;
    this.goTo(Math.max(0, start), { again: true });
    if (isOpening) this.takeFocus();
    this.held.release();
  }

  /** Takes the keys when the session opens, also after a click in the menu, but from nobody who types. */
  takeFocus() {
    const isTyping = document.activeElement?.closest(TYPED) ?? null;
    if (isTyping || document.querySelector("dialog[open], [role='dialog']")) return;
    this.viewport.node.focus({ preventScroll: true });
  }

  /**
   * Where a new window starts: at what an undo brought back, else where the reviewer is, else where the page says.
   * @type {(at: string, own: string | undefined, isMoved: boolean) => number}
   */
  startOf(at, own, isMoved) {
    const { wanted } = this.window;
    const back = wanted ? this.window.placeOf(wanted) : -1;
    if (back >= 0) return back;
    if (wanted) {
      this.held.drop();
      this.toolbar.showMessage(`undone · ${wanted}, which is not in this queue`);
    }
    const kept = own && (wanted || !isMoved) ? this.window.placeOf(own) : -1;
    return kept >= 0 ? kept : this.window.placeOf(at);
  }

  remove() {
    this.clock.end();
    this.timeOnScreen.end();
    this.exampleDialog.remove();
    this.root.remove();
  }

  // -- moving -------------------------------------------------------------------------------------------------------

  /**
   * Shows the example at a place of the window; the picture first, the rest right after it.
   * @param {number} at
   * @param {{again?: boolean, isLed?: boolean}} [options] again: the window is new, the example may be the same; isLed:
   * the session, not its reviewer, chose the example
   */
  goTo(at, { again = false, isLed = again } = {}) {
    const entry = this.cells[at];
    if (!entry) return false;
    const isSame = again && this.onStage === entry.cell.id;
    this.focus = at;
    this.isWaiting = false;
    this.isLed = isLed;
    if (!isSame) {
      this.since = Date.now();
      if (this.onStage !== null) this.timeOnScreen.stop(this.onStage);
      if (!again && !this.isBringingBack) this.held.drop();
      this.onStage = entry.cell.id;
      this.viewport.show(entry.cell);
      this.sidePanel.show(entry.cell);
      if (this.exampleDialog.isOpen && !this.exampleDialog.guest) this.exampleDialog.show(entry.cell);
    }
    this.memory.id = entry.cell.id;
    this.filmstrip.draw();
    this.drawPlace();
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.arrive(entry), 0);
    return true;
  }

  /** Something of the current example can be seen: its clock starts, and the key that waited for it acts. @param {Cell} cell */
  pictureCame(cell) {
    if (this.onStage !== cell.id) return;
    this.since = Date.now();
    this.timeOnScreen.start(cell.id);
    this.held.releaseSoon();
  }

  /** What can wait until the picture is painted. @param {Target} entry */
  arrive(entry) {
    if (this.here !== entry.cell) return;
    this.putIntoAddress(entry.cell.id);
    this.sidePanel.draw();
    this.tools.draw();
    const next = this.cells.slice(this.focus + 1, this.focus + 1 + FACTS).map(({ cell }) => cell);
    const before = this.cells[this.focus - 1];
    for (const { cell } of this.cells.slice(this.focus + 1, this.focus + 1 + PREVIEWS))
      this.viewport.decoded.preview(cell, this.hub.thumbnails);
    for (const cell of next.slice(0, AHEAD)) this.viewport.decoded.load(cell);
    if (before) this.viewport.decoded.load(before.cell);
    this.readFacts();
    for (const name of [next[0]?.label, next[0]?.suggestion]) if (name) this.sidePanel.classOf(name);
    this.locks.hold(LOCKED);
    this.window.refillAt(this.focus);
  }

  /** Called with each answer about who looks at what: whoever has just come to an example by itself is led on. */
  locksCame() {
    if (this.isWaiting) this.advance();
    else if (this.isLed && Date.now() - this.since < JUST_ARRIVED) this.leaveTaken();
  }

  /** Passes over the current example where somebody else looks at it or has decided it. */
  leaveTaken() {
    const cell = this.here;
    if (!cell || this.decisions.shown(cell.id).decision || this.exampleDialog.isOpen) return;
    const other = this.locks.otherHolder(cell.id);
    if (!other && !this.locks.isClosed(cell)) return;
    const what = other ? `${other} is looking at ${cell.id}` : `${cell.id} was decided meanwhile`;
    this.toolbar.showMessage(`${what}; on to the next one.`);
    this.advance();
  }

  /** Reads the facts of the next examples, many with one request; of blind ones the server gives none before the first
   * verdict is written. */
  readFacts() {
    const near = this.cells.slice(this.focus, this.focus + FACTS).map(({ cell }) => cell);
    const wanted = near.filter((cell) => !cell.blind || this.isWritten(cell.id));
    if (wanted.slice(0, FACTS_LEFT).some(({ id }) => !this.sidePanel.facts.has(id))) this.sidePanel.ahead(wanted);
  }

  /** Whether the log has the reviewer's decision about an example. @param {string} id */
  isWritten(id) {
    const { decision, saving } = this.decisions.shown(id);
    return Boolean(decision) && !saving;
  }

  /** Called by the side panel after a reading of facts. @param {boolean} isRead */
  factsCame(isRead) {
    if (!this.here) return;
    this.sidePanel.draw();
    if (isRead) this.readFacts();
  }

  /** Seconds that an example was large on screen. @param {string} id */
  onScreen(id) {
    return this.timeOnScreen.seconds(id);
  }

  /** @param {string} id */
  putIntoAddress(id) {
    const url = new URL(location.href);
    if (url.searchParams.get(PLACE) === id) return;
    url.searchParams.set(PLACE, id);
    history.replaceState(history.state, "", url);
  }

  /** Goes to the next example that nobody has decided and nobody else looks at. */
  advance() {
    const at = this.cells.findIndex(({ cell }, place) => place > this.focus && this.locks.isFree(cell));
    const next = this.cells[at]?.cell;
    this.isWaiting = next !== undefined && !this.locks.isSure(next);
    if (this.isWaiting) {
      this.locks.hold(LOCKED);
      return;
    }
    if (at >= 0) {
      this.goTo(at, { isLed: true });
      return;
    }
    if (this.window.isMoreAfter()) {
      this.window.request(this.focus);
      return;
    }
    this.repaint();
    const isSkipped = this.window.first > 0 || this.cells.some(({ cell }) => this.locks.isFree(cell));
    const rest = isSkipped ? " Some before were skipped: Home leads to the first." : "";
    this.toolbar.showMessage(`That was the last one of this queue.${rest}`);
  }

  /** Goes to the first example that is not decided. */
  home() {
    const open = this.cells.findIndex(({ cell }) => this.locks.isFree(cell));
    this.goTo(open >= 0 ? open : 0);
  }

  /** @param {number} by */
  step(by) {
    this.goTo(Math.max(0, Math.min(this.cells.length - 1, this.focus + by)));
  }

  /** @param {number} at */
  moveTo(at) {
    return this.goTo(at);
  }

  // -- deciding -----------------------------------------------------------------------------------------------------

  targets() {
    const entry = (this.exampleDialog.isOpen && this.exampleDialog.guest) || this.cells[this.focus];
    return entry ? [entry] : [];
  }

  /** What is not on screen yet; null where keys may act. */
  get missing() {
    if (this.exampleDialog.isOpen) return this.exampleDialog.missing;
    if (this.isBringingBack) return "The undone example";
    return this.here && !this.viewport.isVisible ? "The picture" : null;
  }

  /** @param {string} name @param {string} [value] @returns {unknown} */
  act(name, value) {
    if (this.isWaiting && !this.exampleDialog.isOpen && name !== "undo" && name !== "keys")
      return this.toolbar.showMessage("The next example is not here yet.");
    if (this.held.takes(name, value)) return undefined;
    if (name === "undo") return this.undo();
    return name === "lookalikes" ? reviewLookalikes(this) : act(this, name, value);
  }

  /** Whether an undone example is on its way back, so that no key acts on another one. */
  get isBringingBack() {
    return this.undos > 0 || this.window.wanted !== null;
  }

  /** Takes the last act back; keys wait until its example is shown. */
  async undo() {
    this.undos += 1;
    try {
      await act(this, "undo");
    } finally {
      this.undos -= 1;
      this.held.release();
    }
  }

  /** @type {(cell: Cell) => Promise<LookalikesAnswer>} */
  readLookalikes(cell) {
    return request(address("alike", { id: cell.id, run: this.data.run }));
  }

  /**
   * Counts examples of the queue as decided, or (negative) as open again.
   * @param {string[]} ids
   * @param {1 | -1} sign
   */
  countLeft(ids, sign) {
    const members = new Set(this.cells.map(({ cell }) => cell.id));
    if (this.left !== null) this.left = Math.max(0, this.left - sign * ids.filter((id) => members.has(id)).length);
    if (ids.length) this.clock.count(sign * ids.length);
  }

  /**
   * Called by the hub with the events just recorded, and the examples that were undecided before.
   * @param {RecordedEvent[]} events
   * @param {string[]} decided
   */
  recorded(events, decided) {
    this.countLeft(decided, 1);
    const here = this.here?.id;
    const isDecided = events.some((event) => event.example_id === here && event.action === "decide" && event.verdict);
    if (isDecided && !this.exampleDialog.isOpen) this.advance();
  }

  /**
   * Called by the hub with the examples of an undo: shows the first again. `opens` are undecided now.
   * @param {string[]} ids
   * @param {string[]} opens
   */
  undone(ids, opens) {
    const [first] = ids;
    const at = first === undefined ? -1 : this.window.placeOf(first);
    if (at >= 0) {
      this.countLeft(opens, -1);
      this.goTo(at);
      return;
    }
    if (opens.length) this.clock.count(-opens.length);
    if (first === undefined) return;
    this.undos += 1;
    this.fetchBack(first).finally(() => {
      this.undos -= 1;
      this.held.release();
    });
  }

  /**
   * Requests the window around an example that was decided before this window was drawn, and is open again.
   * @param {string} id
   */
  async fetchBack(id) {
    if (!this.window.turn || !(await this.queue.empty(SAVED_WITHIN))) return;
    this.left = null; // the page counts again
    this.putIntoAddress(id);
    this.window.bringBack(id);
    setTimeout(() => this.giveUp(id), SAVED_WITHIN);
  }

  /** The page has not answered with an undone example: keys act on the present one again. @param {string} id */
  giveUp(id) {
    if (this.window.wanted !== id) return;
    this.window.wanted = null;
    this.held.drop();
    this.toolbar.showMessage(`undone · ${id}, which could not be loaded; reload the page to see it`);
  }

  // -- parts -------------------------------------------------------------------------------------------------------

  /** @param {Cell} cell */
  isDeep(cell) {
    return this.sidePanel.facts.get(cell.id)?.deep ?? true;
  }

  /**
   * Follows the decisions about examples of a dialog, or of the side panel, whose late answers end no dialog's.
   * @param {Cell[]} cells
   * @param {"dialog" | "side"} [where]
   */
  follow(cells, where = "dialog") {
    this.followed.set(where, cells);
    this.guests = [...this.followed.values()].flat();
    this.hub.watch();
  }

  // -- keys ---------------------------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.defaultPrevented || event.altKey || closest(event, "dialog") || fieldTakes(event)) return;
    if (presses(event)) return;
    if (!isHeld(event) && !moveKey(this, event) && !pictureKey(this, event) && !this.actionKey(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {KeyboardEvent} event */
  actionKey(event) {
    return actionKey(this, event);
  }

  open() {
    if (this.here) this.exampleDialog.open(this.here);
  }

  /** @param {Cell} cell @param {Cell[]} cells */
  openGuest(cell, cells) {
    this.exampleDialog.openGuest(cell, cells);
  }

  dialogClosed() {
    this.since = Date.now();
    this.viewport.node.focus({ preventScroll: true });
    if (this.here && this.decisions.shown(this.here.id).decision) this.repaint();
  }

  // -- drawing ------------------------------------------------------------------------------------------------------

  drawPlace() {
    const entry = this.cells[this.focus];
    if (!entry) return;
    const { cell, place } = entry;
    const facts = [`${grouped(place + 1)} of ${grouped(this.window.of)}`];
    if (cell.score && !cell.blind) facts.push(cell.score);
    this.note.textContent = [...facts, cell.id].join(" · ");
    this.note.title = cell.score_help ?? "";
  }

  /** Shows the decisions, all or those about some ids. @param {string[] | null} [ids] */
  repaint(ids = null) {
    if (!this.here) return;
    this.filmstrip.paint(ids);
    if (!ids || ids.includes(this.here.id)) this.sidePanel.show(this.here);
    if (this.exampleDialog.isOpen) this.exampleDialog.paint();
    this.toolbar.drawStatus();
    this.clock.draw();
  }
}
