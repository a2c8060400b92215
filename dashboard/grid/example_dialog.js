// One example in full: the picture with its VoG map on a key, all scores, probabilities, metadata, decisions.

/** @import { Cell, ExampleFacts, Host } from "./types.js" */
import { button, el, isThere, quiet } from "./dom.js";
import { bars, decisionLines, history, labels, pairs, precedents, scores, section } from "./facts.js";
import { address, reason, request } from "./http.js";
import { readInfluence, strips } from "./influential_examples.js";
import { fieldTakes, isHeld } from "./keys.js";
import { paintThumbs } from "./thumbnails.js";
import { TimeOnScreen } from "./time_on_screen.js";
import { actions, UNDO } from "./verdicts.js";
import { Viewport } from "./viewport.js";

const SCORES_HELP = "Value, and percentile among the examples of the same split; point at a name for its meaning.";

/**
 * An opened example that is in no panel, and the examples that it stands among.
 * @typedef {{cell: Cell, cells: Cell[], panel: null, place: number}} Guest
 */

export class ExampleDialog {
  /** @param {Host} host supplies the cells, the run, the keys and the decisions */
  constructor(host) {
    this.host = host;
    /** @type {Cell | null} */
    this.cell = null;
    /** @type {Guest | null} */
    this.guest = null;
    /** What was open before the guest. @type {{cell: Cell, guest: Guest | null}[]} */
    this.trail = [];
    this.time = new TimeOnScreen();
    this.viewport = new Viewport(
      host,
      () => this.drawTools(),
      (cell) => this.pictureCame(cell),
    );
    this.side = el("div", { class: "hl-side", tabindex: "0", "aria-label": "Facts about this example" });
    this.influence = el("div", { class: "hl-both" });
    this.title = el("h2", {});
    this.message = el("span", { class: "hl-message hl-long", role: "status" });
    this.decided = el("div", { class: "hl-decided" });
    this.backButton = button("Back", null, () => this.back(), { hidden: true });
    const tool = (/** @type {string} */ title, /** @type {string} */ key, /** @type {() => unknown} */ click) =>
      button(title, key, click, { "aria-pressed": "false" });
    this.mapButton = tool("VoG map", "M", () => this.viewport.toggleMap());
    this.zoomButton = tool("1:1", "Z", () => this.viewport.toggleSize());
    this.windowButton = tool("Window", "V", () => this.viewport.toggleWindow());
    this.dialog = this.makeDialog();
    host.layer.append(this.dialog);
  }

  makeDialog() {
    /** @type {HTMLDialogElement} */
    const dialog = el(
      "dialog",
      { class: "hl-dialog hl-viewer", "aria-label": "Example", data: { testid: "example-dialog" } },
      el(
        "header",
        { class: "hl-head hl-bar" },
        this.step(-1, "←", "Previous example"),
        this.title,
        this.step(1, "→", "Next example"),
        el("span", { class: "hl-gap" }),
        this.message,
        this.backButton,
        this.mapButton,
        this.zoomButton,
        this.windowButton,
        button("Close", "Esc", () => dialog.close()),
      ),
      el("div", { class: "hl-body" }, this.viewport.node, this.side),
      this.host.hub.readOnly ? null : el("footer", { class: "hl-foot hl-tools" }, this.tools()),
    );
    dialog.addEventListener("keydown", (event) => this.key(event));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => this.closed());
    return dialog;
  }

  /** What was held for this example is for no other one. */
  closed() {
    this.leave();
    this.host.dialogClosed();
  }

  /** The opened example goes: its clock stops, and a key that waited for it is forgotten. */
  leave() {
    this.host.held.drop();
    if (this.cell) this.time.stop(this.cell.id);
  }

  /** Something of the opened example can be seen: its clock starts, and the key that waited for it acts.
   * @param {Cell} cell */
  pictureCame(cell) {
    if (this.guest) this.host.since = Date.now();
    this.time.start(cell.id);
    this.host.held.releaseSoon();
  }

  /** Seconds that an example was on screen in this dialog. @param {string} id */
  onScreen(id) {
    return this.time.seconds(id);
  }

  /** Shows what the bar says: it lies under this dialog. @param {string} text */
  showMessage(text) {
    this.message.textContent = this.isOpen ? text : "";
    this.message.title = text;
  }

  /** What is not on screen yet; null where keys may act. */
  get missing() {
    return this.viewport.isVisible ? null : "The picture";
  }

  remove() {
    this.time.end();
  }

  get isOpen() {
    return this.dialog.open;
  }

  get map() {
    return this.viewport.map;
  }

  /** @param {number} by @param {string} arrow @param {string} label */
  step(by, arrow, label) {
    return button(arrow, null, () => this.move(by), { "aria-label": label, title: label });
  }

  tools() {
    return [...actions(), UNDO].map(({ title, key, help, name }) =>
      button(title, key.toUpperCase(), () => this.host.act(name), { title: help }),
    );
  }

  // -- which example is open ----------------------------------------------------------------------------------------

  /** @param {Cell} cell */
  open(cell) {
    this.guest = null;
    this.trail = [];
    this.present(cell);
  }

  /**
   * Opens an example that is in no panel; from an opened one there is a way back.
   * @param {Cell} cell
   * @param {Cell[]} cells
   */
  openGuest(cell, cells) {
    this.trail = this.isOpen && this.cell ? [...this.trail, { cell: this.cell, guest: this.guest }] : [];
    this.guest = { cell, cells, panel: null, place: cells.indexOf(cell) };
    this.host.since = Date.now();
    this.present(cell);
  }

  back() {
    const last = this.trail.pop();
    if (!last) return;
    this.guest = last.guest;
    this.present(last.cell);
  }

  /** @param {Cell} cell */
  present(cell) {
    this.show(cell);
    if (!this.isOpen) this.dialog.showModal();
    this.side.focus({ preventScroll: true });
  }

  /** @param {number} by */
  move(by) {
    if (this.guest) {
      this.moveGuest(this.guest, by);
      return;
    }
    const { host } = this;
    const moved = host.moveTo(host.focus + by, { reveal: false });
    const entry = host.cells[host.focus];
    if (moved && entry) this.show(entry.cell);
  }

  /**
   * Steps through the examples that the opened one stands among; the way back stays the same.
   * @param {Guest} guest
   * @param {number} by
   */
  moveGuest(guest, by) {
    const cell = guest.cells[guest.place + by];
    if (!cell) return;
    this.guest = { ...guest, cell, place: guest.place + by };
    this.host.since = Date.now();
    this.show(cell);
  }

  // -- reading and drawing ------------------------------------------------------------------------------------------

  /** @param {Cell} cell */
  async show(cell) {
    const last = this.trail.at(-1);
    if (this.cell !== cell) this.leave();
    this.cell = cell;
    this.title.textContent = cell.id;
    this.title.title = cell.id;
    this.viewport.show(cell);
    this.drawTools();
    this.backButton.hidden = !last;
    this.backButton.title = last ? `back to ${last.cell.id}` : "";
    this.paint();
    this.side.replaceChildren(this.decided, quiet("Reading …"));
    this.side.scrollTop = 0;
    try {
      const facts = await this.read(cell);
      if (this.cell !== cell) return;
      if (facts.content) this.viewport.setContent(facts.content);
      this.draw(cell, facts);
      if (!facts.hidden) this.drawInfluence(cell);
    } catch (error) {
      if (this.cell === cell) this.side.replaceChildren(this.decided, quiet(`Facts cannot be read: ${reason(error)}`));
    }
    this.readAhead();
  }

  /** All facts about an example. @type {(cell: Cell) => Promise<ExampleFacts>} */
  read(cell) {
    return request(address("example", { id: cell.id, run: this.host.data.run }));
  }

  /** Loads the neighbours' pictures, so that stepping shows them at once. */
  readAhead() {
    const { cells, focus } = this.host;
    for (const entry of [cells[focus + 1], cells[focus - 1]]) if (entry) this.viewport.decoded.load(entry.cell);
  }

  drawTools() {
    const { map, window, view } = this.viewport;
    this.mapButton.setAttribute("aria-pressed", String(map));
    this.windowButton.setAttribute("aria-pressed", String(Boolean(window)));
    this.zoomButton.setAttribute("aria-pressed", String(view.scale !== 1));
  }

  /** The influential examples. Read after the rest, which nobody should wait for. @param {Cell} cell */
  async drawInfluence(cell) {
    try {
      const answer = await readInfluence(this.host, [cell.id]);
      if (this.cell !== cell) return;
      this.host.follow([...answer.opponents, ...answer.proponents, ...(this.guest?.cells ?? [])]);
      this.influence.replaceChildren(...strips(this.host, answer, (one, cells) => this.openGuest(one, cells)));
    } catch (error) {
      if (this.cell === cell) this.influence.replaceChildren(quiet(`Influence cannot be read: ${reason(error)}`));
    }
  }

  revealInfluence() {
    this.influence.scrollIntoView({ block: "start" });
  }

  /** Own and others' decisions at the top, as they are known now. */
  paint() {
    if (!this.cell) return;
    const shown = this.host.decisions.shown(this.cell.id);
    this.decided.replaceChildren(...decisionLines(shown, this.host.hub.glyphs));
    paintThumbs(this.host, this.influence);
  }

  /** @param {Cell} cell @param {ExampleFacts} facts */
  draw(cell, facts) {
    this.influence.replaceChildren(facts.hidden ? "" : quiet("Reading influence …"));
    const parts = [
      this.decided,
      labels(cell),
      facts.hidden ? el("p", { class: "hl-quiet", data: { testid: "hidden" } }, facts.hidden) : null,
      section("Class probabilities", bars(facts.probabilities, cell), facts.probabilities_help),
      this.influence,
      section("Scores", scores(facts.scores), SCORES_HELP),
      section("Precedents for look-alikes", precedents(facts.precedents)),
      section("Metadata", pairs(facts.metadata)),
      section("History", history(facts.history)),
    ];
    this.side.replaceChildren(...parts.filter(isThere));
  }

  // -- keys ---------------------------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  key(event) {
    event.stopPropagation();
    if (event.altKey || fieldTakes(event)) return;
    if (isHeld(event)) {
      event.preventDefault();
      return;
    }
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && !event.ctrlKey && !event.metaKey && !event.shiftKey) this.move(step);
    else if (!this.viewport.key(event) && !this.host.actionKey(event)) return;
    event.preventDefault();
  }
}
