// Beside the large picture: what helps to decide. Label and suggestion, neighbours, typical and gold examples with the
// guidelines of both classes, opponents, scores. Every thumbnail goes beside the picture with a click.

import { readBehind } from "./behind.js";
import { unjudged } from "./contents.js";
import { address, ask, el } from "./dom.js";
import { bars, decisions, history, pairs, precedents, scores, section } from "./facts.js";
import { paintThumb, thumb } from "./thumbs.js";
import { plural } from "./words.js";

const LATER = 250; // milliseconds on one example before what is slower is asked for
const BATCH = 8;

export class Side {
  constructor(desk) {
    this.desk = desk;
    this.dossiers = new Map(); // id → what the server knows; asked for ahead
    this.classes = new Map(); // name → promise of guidelines, gold and typical examples
    this.behind = new Map();
    this.asked = new Set();
    this.failed = null; // why the last reading failed
    this.head = el("div", { class: "hl-verdicts" });
    this.decided = el("div", { class: "hl-decided" });
    this.body = el("div", { class: "hl-both" });
    this.node = el(
      "div",
      { class: "hl-side", tabindex: "0", role: "region", "aria-label": "What helps to decide" },
      this.head,
      this.decided,
      this.body,
    );
    this.examples = []; // what can be put beside the picture, in the order of the page
  }

  // -- reading ahead ------------------------------------------------------------------------------------------------

  /** Have the facts of these cells ready; one request at a time. */
  async ahead(cells) {
    const wanted = cells.filter(({ id }) => !this.dossiers.has(id) && !this.asked.has(id)).slice(0, BATCH);
    if (!wanted.length || this.reading) return;
    this.reading = true;
    for (const { id } of wanted) this.asked.add(id);
    try {
      const ids = wanted.map(({ id }) => id);
      const found = await ask(address("dossiers", { run: this.desk.data.run }), JSON.stringify({ ids }));
      for (const [id, dossier] of Object.entries(found)) this.dossiers.set(id, dossier);
      this.failed = null;
    } catch (error) {
      this.failed = error;
    }
    for (const { id } of wanted) this.asked.delete(id);
    this.reading = false;
    if (this.dossiers.size > 120) for (const id of [...this.dossiers.keys()].slice(0, 40)) this.dossiers.delete(id);
    this.desk.factsCame(this.failed === null);
  }

  classOf(name) {
    if (!this.classes.has(name)) {
      const asked = ask(address("class", { name, run: this.desk.data.run })).catch((error) => {
        this.classes.delete(name);
        return { name, text: "", gold: [], missing: [], typical: [], error };
      });
      this.classes.set(name, asked);
    }
    return this.classes.get(name);
  }

  // -- drawing ------------------------------------------------------------------------------------------------------

  /** The part that must be there with the picture: what is asked, and the keys that answer. */
  show(cell) {
    this.cell = cell;
    if (this.dossiers.get(cell.id)?.hidden) this.dossiers.delete(cell.id); // it may be told by now
    this.drawHead();
    this.paint();
    if (![cell.id, `blind ${cell.id}`].includes(this.drawn)) {
      this.body.replaceChildren();
      this.node.scrollTop = 0;
    }
  }

  drawHead() {
    const { desk } = this;
    const decided = this.cell.blind && desk.board.shown(this.cell.id).decision;
    const told = decided ? this.dossiers.get(this.cell.id) : null; // the server hides it until the first verdict
    const opinion = told && !told.hidden ? told.opinion : null;
    const cell = opinion ? { ...this.cell, ...opinion, blind: false } : this.cell;
    const answer = (name, key, role, what, text, note) =>
      el(
        "button",
        {
          type: "button",
          class: `hl-answer hl-answer-${role}`,
          disabled: Boolean(desk.hub.readOnly),
          on: { click: () => desk.act(name), mousedown: (event) => event.preventDefault() },
        },
        desk.hub.readOnly ? null : el("kbd", { class: "hl-key", "aria-hidden": "true" }, key),
        el("span", { class: "hl-what" }, what),
        el("strong", { title: text, dir: "auto" }, el("span", { class: `hl-ink-${role}`, "aria-hidden": "true" }, desk.hub.glyphs[role] ?? ""), ` ${text}`),
        note ? el("span", { class: "hl-quiet" }, note) : null,
      );
    const parts = [];
    if (cell.label !== null) parts.push(answer("right", "Q", "label", "Label", cell.label, cell.group ? `group ${cell.group}` : ""));
    if (cell.suggestion)
      parts.push(answer("suggested", "W", "prediction", "Suggested", cell.suggestion, `from ${cell.suggestion_source}`));
    if (cell.blind)
      parts.push(el("p", { class: "hl-quiet" }, "Blind: scores and suggestion are hidden until the first verdict."));
    if (cell.prediction && cell.prediction !== cell.suggestion && cell.prediction !== cell.label)
      parts.push(el("p", { class: "hl-quiet" }, `Prediction: ${cell.prediction}`));
    const at = [...this.head.children].indexOf(document.activeElement);
    this.head.replaceChildren(...parts);
    if (at >= 0) (parts[at]?.tagName === "BUTTON" ? parts[at] : desk.stage.node).focus({ preventScroll: true });
  }

  paint() {
    const shown = this.desk.board.shown(this.cell.id);
    this.decided.replaceChildren(...decisions(shown, this.desk.hub.glyphs));
    if (this.cell.blind && !this.dossiers.has(this.cell.id) && this.desk.isWritten(this.cell.id)) this.desk.readFacts();
    for (const node of this.body.querySelectorAll(".hl-thumb")) paintThumb(this.desk, node);
  }

  /** Everything else, once its facts are there. */
  draw() {
    const { cell } = this;
    const dossier = this.dossiers.get(cell.id);
    if (cell.blind && !this.desk.board.shown(cell.id).decision) return this.drawBlind(cell);
    if (!dossier && this.failed)
      this.body.replaceChildren(el("p", { class: "hl-quiet" }, `Nothing more can be read: ${this.failed.message}`));
    if (!dossier || this.drawn === cell.id) return undefined;
    this.drawn = cell.id;
    if (cell.blind) this.drawHead();
    if (dossier.content) this.desk.stage.setContent(dossier.content);
    const near = dossier.neighbours;
    this.examples = near.map((one, at) => [one, `neighbour ${at + 1}: label ${one.label ?? "none"}`]);
    this.slots = { classes: el("div", { class: "hl-both" }), alike: el("div"), behind: el("div", { class: "hl-both" }) };
    this.body.replaceChildren(
      dossier.hidden ? el("p", { class: "hl-quiet" }, dossier.hidden) : "",
      section("Precedents for look-alikes", precedents(dossier.precedents)) ?? "",
      this.slots.alike,
      dossier.hidden ? "" : this.strip("Nearest neighbours", near, this.agreement(near), "neighbours"),
      this.slots.classes,
      this.slots.behind,
      ...[
        section("Scores", scores(dossier.scores), `Value, and percentile among ${dossier.split} examples of the same label.`),
        section("Class probabilities", bars(dossier.probabilities, cell), "Softmax of the last checkpoint; in-sample on train."),
        section("Metadata", pairs(dossier.metadata)),
        section("History", history(dossier.history)),
      ].filter(Boolean),
    );
    this.drawClasses(cell);
    clearTimeout(this.later);
    if (!dossier.hidden) this.later = setTimeout(() => this.drawLater(cell), LATER);
    return undefined;
  }

  /** Of a blind example only what the label means is shown. */
  async drawBlind(cell) {
    if (this.drawn === `blind ${cell.id}`) return;
    this.drawn = `blind ${cell.id}`;
    this.slots = { classes: el("div", { class: "hl-both" }) };
    this.examples = [];
    this.body.replaceChildren(this.slots.classes);
    this.drawClasses(cell);
    if (!cell.text && !cell.rows) return;
    const facts = await ask(address("example", { id: cell.id, run: this.desk.data.run })).catch(() => null);
    const here = this.cell === cell && this.drawn === `blind ${cell.id}`;
    if (here && facts?.content) this.desk.stage.setContent(unjudged(facts.content));
  }

  agreement(near) {
    if (!near.length) return "Not computed yet: hardlook score computes neighbours.";
    const counts = new Map();
    for (const { label } of near) counts.set(label, (counts.get(label) ?? 0) + 1);
    const said = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 3);
    return `${said.map(([name, n]) => `${n} of ${near.length} are labelled ${name}`).join(", ")}. By features, nearest first.`;
  }

  strip(title, cells, help, testid) {
    const thumbs = cells.map((cell) =>
      thumb(this.desk, cell, () => this.desk.compare(cell), { label: `compare with ${cell.id}` }),
    );
    return el(
      "section",
      { class: "hl-behind", data: { testid } },
      el("h3", {}, title),
      help ? el("p", { class: "hl-quiet" }, help) : null,
      thumbs.length ? el("div", { class: "hl-strip" }, thumbs) : null,
    );
  }

  async drawClasses(cell) {
    const slot = this.slots.classes;
    const names = [...new Set([cell.label, cell.suggestion].filter(Boolean))];
    const known = await Promise.all(names.map((name) => this.classOf(name)));
    if (this.cell !== cell || this.slots.classes !== slot) return;
    slot.replaceChildren(...known.map((one) => this.classCard(one)));
    for (const { name, gold, typical } of known) {
      this.examples.push(...gold.map((one) => [one, `gold ${name}`]));
      this.examples.push(...typical.map((one) => [one, `typical ${name}`]));
    }
    this.desk.follow(this.examples.map(([one]) => one), "side");
  }

  classCard({ name, text, gold, typical }) {
    const role = name === this.cell.label ? "label" : "suggestion";
    const lines = text.split("\n").length > 4 || text.length > 220;
    const guide = el("p", { class: "hl-guide" }, text);
    const shown = !text ? null : lines ? el("details", {}, el("summary", {}, `Guidelines for ${name}`), guide) : guide;
    return el(
      "div",
      { class: "hl-class", data: { testid: `class-${role}` } },
      shown,
      gold.length ? this.strip(`Gold: ${name}`, gold, null, "gold") : null,
      this.strip(`Typical ${name}`, typical, typical.length ? null : "No typical example is known.", "typical"),
    );
  }

  /** What takes longer, for those who stay: look-alikes and opponents. */
  async drawLater(cell) {
    if (this.cell !== cell) return;
    const { behind } = this.slots;
    this.drawAlike(cell);
    try {
      const answer = this.behind.get(cell.id) ?? (await readBehind(this.desk, [cell.id]));
      this.behind.set(cell.id, answer);
      if (this.cell !== cell || this.slots.behind !== behind) return; // left, and perhaps drawn again since
      const parts = [];
      if (answer.note) parts.push(el("p", { class: "hl-quiet" }, answer.note));
      if (answer.command) parts.push(el("code", { class: "hl-command" }, answer.command));
      if (answer.used) {
        const help = "Training on them, as they are labelled, raises the loss here.";
        parts.push(this.strip("Strongest opponents", answer.opponents, help, "opponents"));
        this.examples.push(...answer.opponents.map((one) => [one, `opponent: label ${one.label ?? "none"}`]));
      }
      behind.replaceChildren(...parts);
      this.desk.follow(this.examples.map(([one]) => one), "side");
    } catch (error) {
      if (this.cell === cell) behind.replaceChildren(el("p", { class: "hl-quiet" }, `Opponents cannot be read: ${error.message}`));
    }
  }

  async drawAlike(cell) {
    if (this.desk.hub.readOnly) return; // they are there to be settled
    try {
      const { members } = await this.desk.readAlike(cell);
      if (this.cell !== cell || members.length < 2) return;
      const n = members.length - 1;
      const open = el(
        "button",
        { type: "button", class: "hl-button", on: { click: () => this.desk.act("alike") } },
        `${plural(n, "look-alike suspect")} `,
        el("kbd", { class: "hl-key", "aria-hidden": "true" }, "A"),
      );
      this.slots.alike.replaceChildren(open);
    } catch {
      // asked again, and told, with the key
    }
  }
}
