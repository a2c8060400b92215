// One example in full: the picture with its VoG map on a key, all scores, probabilities, metadata, what was decided.

import { paintThumb, readBehind, strips } from "./behind.js";
import { content, smoothen } from "./cells.js";
import { whole } from "./contents.js";
import { address, ask, button, el, figure } from "./dom.js";
import { ACTIONS, moment, told, UNDO } from "./words.js";

export class Viewer {
  /** `grid` supplies the cells, the run, the keys and what is decided. */
  constructor(grid) {
    this.grid = grid;
    this.facts = new Map();
    this.picture = el("div", { class: "hl-stage" });
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
    this.mapButton = button("VoG map", "M", () => this.toggleMap(), { "aria-pressed": "false" });
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
        button("Close", "Esc", () => this.dialog.close()),
      ),
      el("div", { class: "hl-body" }, this.picture, this.side),
      el("footer", { class: "hl-foot hl-tools" }, this.tools()),
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
    return [...ACTIONS, UNDO].map(({ title, key, help, name }) =>
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
    this.map = false;
    this.show(cell);
    if (!this.isOpen) this.dialog.showModal();
    this.side.focus({ preventScroll: true });
  }

  async show(cell) {
    this.cell = cell;
    this.content = null;
    this.title.textContent = cell.id;
    this.title.title = cell.id;
    this.drawPicture();
    this.backButton.hidden = !this.trail.length;
    this.backButton.title = this.trail.length ? `back to ${this.trail.at(-1).cell.id}` : "";
    this.paint();
    this.side.replaceChildren(this.decided, el("p", { class: "hl-quiet" }, "Reading …"));
    this.side.scrollTop = 0;
    try {
      const facts = await this.read(cell);
      if (this.cell !== cell) return;
      this.content = facts.content;
      if (this.content) this.drawPicture();
      this.draw(facts);
      this.drawBehind(cell);
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
    for (const by of [1, -1]) {
      const cell = this.grid.cells[this.grid.focus + by]?.cell;
      if (cell && !cell.problem && !cell.text && !cell.rows)
        new Image().src = address("image", { id: cell.id, v: cell.fingerprint });
    }
  }

  drawPicture() {
    const about = { id: this.cell.id, run: this.grid.data.run, memory: (this.cutMemory ??= {}) };
    const text = whole(this.content, this.map, about);
    const picture = text ?? content(this.cell);
    if (!text) picture.classList.add("hl-full");
    this.picture.replaceChildren(el("div", { class: "hl-layers" }, picture));
    if (this.map && !text) this.drawMap();
    this.mapButton.setAttribute("aria-pressed", String(this.map));
  }

  /** Lay the map over the picture. It is off by default: reviewers read it as evidence. */
  drawMap() {
    const image = el("img", {
      class: "hl-map",
      alt: "VoG map: bright where the gradient varies most between checkpoints",
      src: address("map", { id: this.cell.id, run: this.grid.data.run, v: this.cell.fingerprint }),
    });
    const layers = this.picture.firstElementChild;
    image.addEventListener("load", () => smoothen(image));
    image.addEventListener("error", () => {
      image.remove();
      layers.append(el("p", { class: "hl-nomap" }, "No VoG map is kept for this example."));
    });
    layers.append(image);
  }

  toggleMap() {
    this.map = !this.map;
    this.drawPicture();
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
    if (event.altKey) return;
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (steps[event.key] && !event.ctrlKey && !event.metaKey) this.move(steps[event.key]);
    else if (event.key === "m" || event.key === "M") this.toggleMap();
    else if (!this.grid.actionKey(event)) return;
    event.preventDefault();
  }

  /** Own and others' decisions at the top, as they are known now. */
  paint() {
    const shown = this.grid.board.shown(this.cell.id);
    const line = (who, decision, saving) =>
      el(
        "p",
        { class: "hl-said" },
        el("strong", {}, who),
        ` ${told(decision)}`,
        saving ? el("em", {}, " saving…") : null,
      );
    const lines = shown.others.map((one) => line(one.reviewer, one, false));
    if (shown.decision) lines.unshift(line("You:", shown.decision, shown.saving));
    if (shown.flag)
      lines.push(el("p", { class: "hl-said" }, `${this.grid.hub.glyphs.flagged} flagged for discussion`));
    if (!lines.length) lines.push(el("p", { class: "hl-quiet" }, "Nobody has decided yet."));
    this.decided.replaceChildren(...lines);
    for (const node of this.behind.querySelectorAll(".hl-thumb")) paintThumb(this.grid, node);
  }

  draw(facts) {
    const parts = [
      this.decided,
      this.labels(),
      section("Class probabilities", this.bars(facts.probabilities), facts.probabilities_help),
    ];
    this.behind.replaceChildren(el("p", { class: "hl-quiet" }, "Reading who is behind it …"));
    parts.push(this.behind);
    parts.push(
      section(
        "Scores",
        this.scores(facts.scores),
        "Value, and percentile among the examples of the same split; point at a name for its meaning.",
      ),
    );
    parts.push(section("Metadata", pairs(facts.metadata)), section("History", history(facts.history)));
    this.side.replaceChildren(...parts.filter(Boolean));
  }

  labels() {
    const { label, prediction, suggestion, suggestion_source: source } = this.cell;
    const rows = [["Label", label ?? "none"]];
    if (prediction) rows.push(["Prediction", prediction]);
    if (suggestion) rows.push(["Suggestion", source ? `${suggestion} (${source})` : suggestion]);
    if (this.cell.influence) rows.push(["Influence", this.cell.influence]);
    if (this.cell.problem) rows.push(["Problem", this.cell.problem]);
    return pairs(rows);
  }

  bars(probabilities) {
    if (!probabilities?.length) return null;
    const { label, prediction } = this.cell;
    const role = (name) => (name === label ? "label" : name === prediction ? "prediction" : "plain");
    return el(
      "table",
      { class: "hl-bars" },
      probabilities.map(([name, p]) => {
        const bar = el("span", { class: `hl-fill hl-fill-${role(name)}` });
        bar.style.setProperty("--share", String(p));
        return el(
          "tr",
          {},
          el("th", { scope: "row", title: name }, name),
          el("td", { class: "hl-track" }, bar),
          el("td", {}, figure(p)),
        );
      }),
    );
  }

  scores(scores) {
    if (!scores?.length) return null;
    const row = (score) => {
      const bar = el("span", { class: "hl-fill hl-fill-plain" });
      bar.style.setProperty("--share", String((score.percentile ?? 0) / 100));
      const rank = score.percentile === null ? "" : `${figure(score.percentile)} %`;
      const value =
        score.value === null ? "not computed" : `${figure(score.value)}${score.unit ? ` ${score.unit}` : ""}`;
      const help = [score.help, direction(score.suspicious)].filter(Boolean).join(" ");
      return el(
        "tr",
        { title: help },
        el("th", { scope: "row" }, score.title),
        el("td", {}, value),
        el("td", { class: "hl-track" }, score.percentile === null ? "" : bar),
        el("td", {}, rank),
      );
    };
    return el("table", { class: "hl-bars" }, scores.map(row));
  }
}

const direction = (suspicious) =>
  ({
    high: "High is suspicious.",
    low: "Low is suspicious.",
    measured: "Which end is hard is measured per run.",
  })[suspicious] ?? "";

function section(title, body, help) {
  if (!body) return null;
  return el("section", {}, el("h3", {}, title), help ? el("p", { class: "hl-quiet" }, help) : null, body);
}

function pairs(rows) {
  if (!rows?.length) return null;
  return el(
    "table",
    { class: "hl-pairs" },
    rows.map(([name, value]) =>
      el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value === null ? "–" : String(value))),
    ),
  );
}

function history(events) {
  if (!events?.length) return null;
  const said = (event) => {
    const what = {
      flag: "⚑ flagged",
      unflag: "took the flag back",
      undo: "took a step back",
      comment: "✎",
      adjudicate: "adjudicated",
    };
    return [what[event.action] ?? "", told(event), event.note ?? ""].filter(Boolean).join(" ");
  };
  return el(
    "ul",
    { class: "hl-history" },
    events.map((event) =>
      el(
        "li",
        { class: event.stands ? null : "hl-gone" },
        el("strong", {}, event.reviewer),
        ` ${said(event)} `,
        el("time", { datetime: event.created_at }, moment(event.created_at)),
      ),
    ),
  );
}
