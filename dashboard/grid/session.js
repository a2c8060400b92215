// A session: one example large, the queue as a strip above it, what helps to decide beside it. A decision advances by
// itself to the next example that its reviewer has not decided; pictures and facts of the next ones are there already.
// It offers what `acts.js` needs of a grid, so that every key says the same here and there.

import { act } from "./acts.js";
import { settleAlike } from "./alike.js";
import { Clock } from "./clock.js";
import { Side } from "./compare.js";
import { legend } from "./dialogs.js";
import { address, ask, el } from "./dom.js";
import { actionKey, fieldTakes, isHeld, presses } from "./keys.js";
import { Sight } from "./sight.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";
import { Toolbar } from "./toolbar.js";
import { Viewer } from "./viewer.js";
import { plural } from "./words.js";

const AHEAD = 5; // pictures that are decoded before they are asked for
const FACTS = 12; // examples whose facts are read before
const FACTS_LEFT = 4; // fewer than these are ready, and more are read
const REFILL = 80; // cells left in the window when the next window is asked for
const PLACE = "at";
const LOCKED = 8; // examples that are kept from others at once
const LOCKED_AHEAD = 3; // fewer than these, and more are taken
const SAVED_WITHIN = 8000; // milliseconds
const LOCKED_FOR = 120000; // milliseconds until locks are asked for again

export class Session {
  constructor(parent, hub, memory) {
    Object.assign(this, { parent, hub, memory });
    this.queue = hub.queue;
    this.board = hub.board;
    this.cells = [];
    this.guests = [];
    this.followed = {};
    this.selected = new Set();
    this.focus = 0;
    this.left = null;
    this.locks = new Map(); // id → who looks at it
    this.visits = new Map(); // id → milliseconds on screen before this visit
    this.toolbar = new Toolbar(this);
    this.strip = new Strip(this);
    this.stage = new Stage(this, () => this.drawTools());
    this.side = new Side(this);
    this.note = el("p", { class: "hl-quiet hl-place", role: "status", data: { testid: "session-place" } });
    this.clock = new Clock(this);
    this.tools = this.makeTools();
    this.layer = el("div", { class: "hl-layer" });
    this.root = el(
      "div",
      {
        class: "hl-root hl-session",
        data: { testid: "review-session" },
        on: { keydown: (event) => this.key(event), focusin: () => (this.hub.active = this) },
      },
      this.toolbar.node,
      el("div", { class: "hl-line1" }, this.note, this.clock.node),
      this.strip.node,
      el("div", { class: "hl-desk" }, el("div", { class: "hl-middle" }, this.stage.node, this.toolsNode), this.side.node),
      legend(hub.marks),
      this.layer,
    );
    parent.append(this.root);
    this.viewer = new Viewer(this);
    this.sight = new Sight();
    hub.active = this;
  }

  get here() {
    return this.cells[this.focus]?.cell ?? null;
  }

  /** Take the window that Streamlit sent; whoever is deciding stays where they are. */
  update(data, turn) {
    const own = this.here?.id ?? this.memory.id;
    const fresh = data.at !== this.sent && this.refilling !== data.at; // the page, not this session, chose another place
    this.turn = turn;
    this.data = data;
    this.labels = data.classes;
    this.asking = false;
    const known = new Map(this.cells.map((entry) => [entry.cell.id, entry]));
    this.cells = data.panels[0].cells.map((cell, at) => {
      const place = data.first + at;
      return Object.assign(known.get(cell.id) ?? {}, { cell, panel: 0, place });
    });
    const placeOf = (id) => this.cells.findIndex(({ cell }) => cell.id === id);
    const back = this.wanted ? placeOf(this.wanted) : -1;
    if (this.wanted && back < 0) this.toolbar.tell(`undone · ${this.wanted}, which is not in this queue`);
    const at = back >= 0 ? back : placeOf((fresh && !this.wanted) || !own ? data.at : own);
    const start = at >= 0 ? at : placeOf(data.at);
    this.wanted = null;
    this.sent = data.at;
    this.left ??= data.left;
    if (data.reason && !this.greeted) this.toolbar.tell((this.greeted = data.reason));
    this.hub.watch();
    this.goTo(Math.max(0, start), { again: true });
  }

  remove() {
    this.clock.end();
    this.sight.end();
    this.root.remove();
  }

  // -- moving -------------------------------------------------------------------------------------------------------

  /** Show the example at a place of the window; the picture first, the rest right after it. */
  goTo(at, { again = false } = {}) {
    const entry = this.cells[at];
    if (!entry) return false;
    const same = again && this.shownId === entry.cell.id;
    if (!same) this.leave();
    this.focus = at;
    this.shownId = entry.cell.id;
    if (!same) {
      this.since = Date.now();
      this.start = performance.now();
      this.stage.show(entry.cell);
      this.side.show(entry.cell);
      if (this.viewer.isOpen && !this.viewer.guest) this.viewer.show(entry.cell);
    }
    this.memory.id = entry.cell.id;
    this.strip.draw();
    this.drawPlace();
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.arrive(entry), 0);
    return true;
  }

  /** What can wait until the picture is painted. */
  arrive(entry) {
    if (this.here !== entry.cell) return;
    this.putIntoAddress(entry.cell.id);
    this.side.draw();
    this.drawTools();
    const next = this.cells.slice(this.focus + 1, this.focus + 1 + FACTS).map(({ cell }) => cell);
    for (const cell of next.slice(0, AHEAD)) this.stage.ready.load(cell);
    const before = this.cells[this.focus - 1]?.cell;
    if (before) this.stage.ready.load(before);
    this.readFacts();
    for (const name of [next[0]?.label, next[0]?.suggestion]) if (name) this.side.classOf(name);
    this.hold([entry.cell, ...next].slice(0, LOCKED));
    const end = this.data.first + this.cells.length;
    if ((this.cells.length - this.focus < REFILL && end < this.data.of) || (this.focus < 10 && this.data.first > 0))
      this.refill();
  }

  /** Ask the page for the window around here. */
  refill() {
    if (this.asking || !this.turn || this.refilled === this.here.id) return;
    this.asking = true;
    this.refilling = this.refilled = this.here.id;
    this.turn(1);
  }

  /** Keep others off this example and the next ones, several at a time; pass over what somebody else looks at. */
  async hold(cells) {
    const near = cells.filter(({ id }) => !this.board.shown(id).decision);
    if (this.hub.readOnly || this.holding || near.slice(0, LOCKED_AHEAD).every(({ id }) => this.locks.has(id))) return;
    this.holding = true;
    try {
      const holders = await ask("/hardlook/hold", JSON.stringify({ ids: near.map(({ id }) => id) }));
      for (const [id, holder] of Object.entries(holders)) this.locks.set(id, holder);
      setTimeout(() => Object.keys(holders).forEach((id) => this.locks.delete(id)), LOCKED_FOR);
    } catch {
      // without locks two people may decide the same example, which the log can bear
    }
    this.holding = false;
    const { id } = this.here;
    if (!this.isTaken(id) || this.board.shown(id).decision || this.viewer.isOpen) return;
    this.toolbar.tell(`${this.locks.get(id)} is looking at ${id}; on to the next one.`);
    this.advance();
  }

  isTaken(id) {
    return this.locks.has(id) && this.locks.get(id) !== this.hub.reviewer;
  }

  /** Have the facts of the next examples ready, many with one request; of those that are blind the server tells nothing
   * before the first verdict is written. */
  readFacts() {
    const near = this.cells.slice(this.focus, this.focus + FACTS).map(({ cell }) => cell);
    const wanted = near.filter((cell) => !cell.blind || this.isWritten(cell.id));
    if (wanted.slice(0, FACTS_LEFT).some(({ id }) => !this.side.dossiers.has(id))) this.side.ahead(wanted);
  }

  isWritten(id) {
    const { decision, saving } = this.board.shown(id);
    return Boolean(decision) && !saving;
  }

  factsCame(read) {
    if (!this.here) return;
    this.side.draw();
    if (read) this.readFacts();
  }

  /** Remember how long the example was on screen. */
  leave() {
    if (this.shownId !== undefined) this.visits.set(this.shownId, this.milliseconds(this.shownId));
  }

  milliseconds(id) {
    const before = this.visits.get(id) ?? 0;
    return id === this.shownId && this.start !== undefined ? before + performance.now() - this.start : before;
  }

  /** Seconds that an example was large on screen, or in the dialog that shows it. */
  onScreen(id) {
    return Math.round(Math.max(this.milliseconds(id), this.sight.milliseconds(id)) / 10) / 100;
  }

  putIntoAddress(id) {
    const url = new URL(location.href);
    if (url.searchParams.get(PLACE) === id) return;
    url.searchParams.set(PLACE, id);
    history.replaceState(history.state, "", url);
  }

  /** To the next example that its reviewer has not decided. */
  advance() {
    const at = this.cells.findIndex(({ cell }, at) => at > this.focus && !this.board.shown(cell.id).decision && !this.isTaken(cell.id));
    if (at >= 0) return this.goTo(at);
    if (this.data.first + this.cells.length < this.data.of) return this.refill();
    this.repaint();
    const open = this.cells.filter(({ cell }) => !this.board.shown(cell.id).decision).length;
    const rest = open || this.data.first ? " Some before were skipped: Home leads to the first." : "";
    return this.toolbar.tell(`That was the last one of this queue.${rest}`);
  }

  step(by) {
    const at = Math.max(0, Math.min(this.cells.length - 1, this.focus + by));
    return this.goTo(at);
  }

  moveTo(at) {
    return this.goTo(at);
  }

  // -- deciding -----------------------------------------------------------------------------------------------------

  targets() {
    const entry = (this.viewer.isOpen && this.viewer.guest) || this.cells[this.focus];
    return entry ? [entry] : [];
  }

  act(name, value) {
    if (name === "alike") return settleAlike(this);
    return act(this, name, value);
  }

  readAlike(cell) {
    return ask(address("alike", { id: cell.id, run: this.data.run }));
  }

  /** Called by the hub with what was just recorded; `decided`: what its reviewer had not decided before. */
  recorded(events, decided) {
    const members = new Set(this.cells.map(({ cell }) => cell.id));
    if (this.left !== null) this.left = Math.max(0, this.left - decided.filter((id) => members.has(id)).length);
    if (decided.length) this.clock.count(decided.length);
    const here = this.here?.id;
    const verdict = events.find((event) => event.example_id === here && event.action === "decide" && event.verdict);
    if (verdict && !this.viewer.isOpen) this.advance();
  }

  /** Called by the hub with what was just taken back: show it again. `opens`: what its reviewer has not decided now. */
  undone(ids, opens) {
    if (opens.length) this.clock.count(-opens.length);
    const at = this.cells.findIndex(({ cell }) => cell.id === ids[0]);
    if (at < 0) return this.fetchBack(ids[0]);
    const members = new Set(this.cells.map(({ cell }) => cell.id));
    if (this.left !== null) this.left += opens.filter((id) => members.has(id)).length;
    return this.goTo(at);
  }

  /** Ask the page for the window around an example that was decided before this one was drawn, and is open again. */
  async fetchBack(id) {
    if (!this.turn || !(await this.queue.empty(SAVED_WITHIN))) return;
    this.wanted = id;
    this.left = null; // the page counts again
    this.putIntoAddress(id);
    this.turn(1);
  }

  // -- comparing ----------------------------------------------------------------------------------------------------

  /** Put an example beside the picture; the same once more takes it away. */
  compare(cell) {
    const same = this.stage.second?.cell.id === cell.id;
    const found = this.side.examples.find(([one]) => one.id === cell.id);
    this.stage.beside(same ? null : cell, found?.[1] ?? `label: ${cell.label ?? "none"}`);
  }

  /** The next of the examples beside; `kind` restricts it to gold ones. */
  compareNext(by, kind = null) {
    const all = this.side.examples.filter(([, what]) => !kind || what.startsWith(kind));
    if (!all.length) return this.toolbar.tell(kind ? "No gold example is known here." : "Nothing to compare with yet.");
    const at = all.findIndex(([one]) => one.id === this.stage.second?.cell.id);
    const [cell, what] = all[at < 0 ? 0 : (at + by + all.length) % all.length];
    return this.stage.beside(cell, what);
  }

  isDeep(cell) {
    return this.side.dossiers.get(cell.id)?.deep ?? true;
  }

  /** Follow what is decided about examples of a dialog, or of the "side": what comes late there ends no dialog's. */
  follow(cells, where = "dialog") {
    this.followed[where] = cells;
    this.guests = Object.values(this.followed).flat();
    this.hub.watch();
  }

  // -- keys ---------------------------------------------------------------------------------------------------------

  key(event) {
    if (event.defaultPrevented || event.altKey || event.target.closest("dialog") || fieldTakes(event)) return;
    if (presses(event)) return;
    if (!isHeld(event) && !this.moveKey(event) && !this.stageKey(event) && !this.actionKey(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  moveKey(event) {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a") {
      this.toolbar.tell("One at a time here; the sheet selects many.");
      return true;
    }
    if (event.ctrlKey || event.metaKey || event.shiftKey) return false;
    const steps = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 };
    if (steps[event.key]) this.step(steps[event.key]);
    else if (event.key === "Home") this.home();
    else if (event.key === "End") this.goTo(this.cells.length - 1);
    else if (event.key === " ") this.advance();
    else if (event.key === "Enter") this.open();
    else if (event.key === "Escape") this.stage.second ? this.stage.beside(null) : this.stage.show(this.here);
    else return false;
    return true;
  }

  /** The first example that is not decided. */
  home() {
    const open = this.cells.findIndex(({ cell }) => !this.board.shown(cell.id).decision);
    this.goTo(open >= 0 ? open : 0);
  }

  stageKey(event) {
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) return false;
    if (key === "t") this.stage.second && !event.shiftKey ? this.stage.beside(null) : this.compareNext(1);
    else if (key === "]" || key === "[") this.compareNext(key === "]" ? 1 : -1);
    else if (key === "g") this.compareNext(1, "gold");
    else if (key === "a") this.act("alike");
    else return this.stage.key(event);
    return true;
  }

  actionKey(event) {
    return actionKey(this, event);
  }

  open() {
    if (this.here) this.viewer.open(this.here);
  }

  openGuest(cell, cells) {
    this.viewer.openGuest(cell, cells);
  }

  viewerClosed() {
    this.since = Date.now();
    this.stage.node.focus({ preventScroll: true });
    if (this.here && this.board.shown(this.here.id).decision) this.repaint();
  }

  // -- drawing ------------------------------------------------------------------------------------------------------

  drawPlace() {
    const entry = this.cells[this.focus];
    const facts = [`${(entry.place + 1).toLocaleString("en")} of ${this.data.of.toLocaleString("en")}`];
    if (entry.cell.score && !entry.cell.blind) facts.push(entry.cell.score);
    facts.push(entry.cell.id);
    this.note.textContent = facts.join(" · ");
    this.note.title = entry.cell.score_help ?? "";
  }

  /** The picture's buttons, made once: one that is made anew loses the focus. */
  makeTools() {
    const { stage } = this;
    const tool = (title, key, isOn, click) => {
      const words = el("span", {}, title);
      const on = { click, mousedown: (event) => event.preventDefault() };
      const keycap = el("kbd", { class: "hl-key", "aria-hidden": "true" }, key);
      return { words, isOn, node: el("button", { type: "button", class: "hl-button", on }, words, " ", keycap) };
    };
    const tools = [
      tool("Zoom", "Z", () => stage.view.scale !== 1, () => stage.toggleSize()),
      tool("VoG map", "M", () => stage.map, () => stage.toggleMap()),
      tool("Window", "V", () => stage.window, () => stage.toggleWindow()),
      tool("Compare", "T", () => stage.second, () => (stage.second ? stage.beside(null) : this.compareNext(1))),
      tool("Gold", "G", () => false, () => this.compareNext(1, "gold")),
      this.hub.readOnly ? null : tool("Look-alikes", "A", () => false, () => this.act("alike")),
      tool("Open", "Enter", () => false, () => this.open()),
      tool("Skip", "Space", () => false, () => this.advance()),
    ].filter(Boolean);
    const nodes = tools.map(({ node }) => node);
    this.toolsNode = el("div", { class: "hl-viewtools", role: "toolbar", "aria-label": "Picture" }, nodes);
    return tools;
  }

  drawTools() {
    const { scale } = this.stage.view;
    this.tools[0].words.textContent = scale === 1 ? "Zoom" : `Zoom ×${Number(scale.toPrecision(2))}`;
    for (const { node, isOn } of this.tools) node.setAttribute("aria-pressed", String(Boolean(isOn())));
  }

  fit() {}

  repaint(ids) {
    if (!this.here) return;
    this.strip.paint(ids);
    if (!ids || ids.includes(this.here.id)) this.side.show(this.here);
    if (this.viewer.isOpen) this.viewer.paint();
    this.toolbar.drawStatus();
    this.clock.draw();
  }
}

export const counted = plural;
