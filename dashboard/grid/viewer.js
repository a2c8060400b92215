// One example in full: the picture with its VoG map on a key, all scores, probabilities, metadata, what was decided.

import { readBehind, strips } from "./behind.js";
import { address, ask, button, el } from "./dom.js";
import { bars, decisions, history, labels, pairs, precedents, scores, section } from "./facts.js";
import { fieldTakes, isHeld } from "./keys.js";
import { Stage } from "./stage.js";
import { paintThumb } from "./thumbs.js";
import { actions, UNDO } from "./words.js";

export class Viewer {
  /** `grid` supplies the cells, the run, the keys and what is decided. */
  constructor(grid) {
    this.grid = grid;
    this.facts = new Map();
    this.stage = new Stage(grid, () => this.drawTools());
    this.side = el("div", {
      class: "hl-side",
      tabindex: "0",
      "aria-label": "What is known about this example",
    });
    this.behind = el("div", { class: "hl-both" });
    this.guest = null; // an opened example that is in no panel: {cell, place, cells}
    this.trail = []; // what was open before it
    this.title = el("h2", {});
    this.decided = el("div", { class: "hl-decided" });
    this.backButton = button("Back", null, () => this.back(), { hidden: true });
    const tool = (title, key, click) => button(title, key, click, { "aria-pressed": "false" });
    this.mapButton = tool("VoG map", "M", () => this.stage.toggleMap());
    this.zoomButton = tool("1:1", "Z", () => this.stage.toggleSize());
    this.windowButton = tool("Window", "V", () => this.stage.toggleWindow());
    this.dialog = el(
      "dialog",
      { class: "hl-dialog hl-viewer", "aria-label": "Example", data: { testid: "example-dialog" } },
      el(
        "header",
        { class: "hl-head hl-bar" },
        this.step(-1, "←", "Previous example"),
        this.title,
        this.step(1, "→", "Next example"),
        el("span", { class: "hl-gap" }),
        this.backButton,
        this.mapButton,
        this.zoomButton,
        this.windowButton,
        button("Close", "Esc", () => this.dialog.close()),
      ),
      el("div", { class: "hl-body" }, this.stage.node, this.side),
      grid.hub.readOnly ? null : el("footer", { class: "hl-foot hl-tools" }, this.tools()),
    );
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => grid.viewerClosed());
    grid.layer.append(this.dialog);
  }

  get isOpen() {
    return this.dialog.open;
  }

  step(by, arrow, label) {
    return button(arrow, null, () => this.move(by), { "aria-label": label, title: label });
  }

  tools() {
    return [...actions(), UNDO].map(({ title, key, help, name }) =>
      button(title, key.toUpperCase(), () => this.grid.act(name), { title: help }),
    );
  }

  open(cell) {
    this.guest = null;
    this.trail = [];
    this.present(cell);
  }

  /** Open an example that is in no panel; from an opened one there is a way back. */
  openGuest(cell, cells) {
    this.trail = this.isOpen ? [...this.trail, { cell: this.cell, guest: this.guest }] : [];
    this.guest = { cell, cells, panel: null, place: cells.indexOf(cell) };
    this.grid.since = Date.now();
    this.present(cell);
  }

  back() {
    const { cell, guest } = this.trail.pop();
    this.guest = guest;
    this.present(cell);
  }

  present(cell) {
    this.show(cell);
    if (!this.isOpen) this.dialog.showModal();
    this.side.focus({ preventScroll: true });
  }

  async show(cell) {
    this.cell = cell;
    this.title.textContent = cell.id;
    this.title.title = cell.id;
    this.stage.show(cell);
    this.drawTools();
    this.backButton.hidden = !this.trail.length;
    this.backButton.title = this.trail.length ? `back to ${this.trail.at(-1).cell.id}` : "";
    this.paint();
    this.side.replaceChildren(this.decided, el("p", { class: "hl-quiet" }, "Reading …"));
    this.side.scrollTop = 0;
    try {
      const facts = await this.read(cell);
      if (this.cell !== cell) return;
      if (facts.content) this.stage.setContent(facts.content);
      this.draw(facts);
      if (!facts.hidden) this.drawBehind(cell);
    } catch (error) {
      if (this.cell === cell)
        this.side.replaceChildren(
          this.decided,
          el("p", { class: "hl-quiet" }, `Nothing more can be read: ${error.message}`),
        );
    }
    this.readAhead();
  }

  /** All that the audit knows about an example; scores are kept while the page stands, decisions are read again. */
  read(cell) {
    return ask(address("example", { id: cell.id, run: this.grid.data.run }));
  }

  /** Load the neighbours' pictures, so that stepping shows them at once. */
  readAhead() {
    for (const by of [1, -1]) this.stage.ready.load(this.grid.cells[this.grid.focus + by]?.cell);
  }

  get map() {
    return this.stage.map;
  }

  drawTools() {
    const { map, window, view } = this.stage;
    this.mapButton.setAttribute("aria-pressed", String(map));
    this.windowButton.setAttribute("aria-pressed", String(Boolean(window)));
    this.zoomButton.setAttribute("aria-pressed", String(view.scale !== 1));
  }

  move(by) {
    if (this.guest) return this.moveGuest(by);
    if (this.grid.moveTo(this.grid.focus + by, { reveal: false }))
      this.show(this.grid.cells[this.grid.focus].cell);
  }

  /** Step through the examples that the opened one stands among; the way back stays the same. */
  moveGuest(by) {
    const { cells, place } = this.guest;
    const cell = cells[place + by];
    if (!cell) return;
    this.guest = { ...this.guest, cell, place: place + by };
    this.grid.since = Date.now();
    this.show(cell);
  }

  /** Who in training is behind the opened example. Asked for after the rest, which nobody should wait for. */
  async drawBehind(cell) {
    try {
      const answer = await readBehind(this.grid, [cell.id]);
      if (this.cell !== cell) return;
      this.grid.follow([...answer.opponents, ...answer.proponents, ...(this.guest?.cells ?? [])]);
      this.behind.replaceChildren(...strips(this.grid, answer, (one, cells) => this.openGuest(one, cells)));
    } catch (error) {
      if (this.cell !== cell) return;
      this.behind.replaceChildren(
        el("p", { class: "hl-quiet" }, `Influence cannot be read: ${error.message}`),
      );
    }
  }

  revealBehind() {
    this.behind.scrollIntoView({ block: "start" });
  }

  key(event) {
    event.stopPropagation();
    if (event.altKey || fieldTakes(event)) return;
    if (isHeld(event)) return event.preventDefault();
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (steps[event.key] && !event.ctrlKey && !event.metaKey && !event.shiftKey) this.move(steps[event.key]);
    else if (!this.stage.key(event) && !this.grid.actionKey(event)) return undefined;
    return event.preventDefault();
  }

  /** Own and others' decisions at the top, as they are known now. */
  paint() {
    const shown = this.grid.board.shown(this.cell.id);
    this.decided.replaceChildren(...decisions(shown, this.grid.hub.glyphs));
    for (const node of this.behind.querySelectorAll(".hl-thumb")) paintThumb(this.grid, node);
  }

  draw(facts) {
    const parts = [
      this.decided,
      labels(this.cell),
      facts.hidden ? el("p", { class: "hl-quiet", data: { testid: "hidden" } }, facts.hidden) : null,
      section("Class probabilities", bars(facts.probabilities, this.cell), facts.probabilities_help),
    ];
    this.behind.replaceChildren(facts.hidden ? "" : el("p", { class: "hl-quiet" }, "Reading who is behind it …"));
    parts.push(this.behind);
    parts.push(
      section(
        "Scores",
        scores(facts.scores),
        "Value, and percentile among the examples of the same split; point at a name for its meaning.",
      ),
    );
    parts.push(section("Precedents for look-alikes", precedents(facts.precedents)));
    parts.push(section("Metadata", pairs(facts.metadata)), section("History", history(facts.history)));
    this.side.replaceChildren(...parts.filter(Boolean));
  }
}
