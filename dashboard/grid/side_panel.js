// Beside the large picture: what helps to decide. Label and suggestion, neighbours, typical and gold examples with the
// guidelines of both classes, opponents, scores. Every thumbnail goes beside the picture with a click.

/** @import { Cell, ClassReference, ExampleFacts, InfluenceAnswer, SessionFacts } from "./types.js" */
/** @import { Session } from "./session.js" */
import { compare } from "./comparison.js";
import { unjudged } from "./contents.js";
import { el, isThere, keycap, keepFocus, quiet } from "./dom.js";
import { bars, decisionLines, history, pairs, precedents, scores, section } from "./facts.js";
import { plural } from "./format.js";
import { address, reason, request } from "./http.js";
import { notes, readInfluence, strip } from "./influential_examples.js";
import { paintThumbs, thumb } from "./thumbnails.js";

const LATER = 250; // milliseconds on one example before what is slower is read
const BATCH = 8;
const KEPT = 120; // examples whose facts are kept
const DROPPED = 40; // the oldest of them, at once
const OPPONENTS_HELP = "Training on them, as they are labelled, raises the loss here.";

/**
 * An example that can be put beside the picture, and its caption.
 * @typedef {[cell: Cell, caption: string]} Comparable
 */

/** Places of the panel that are filled later. */
const makeSlots = () => ({
  classes: el("div", { class: "hl-both" }),
  lookalikes: el("div"),
  influence: el("div", { class: "hl-both" }),
});

export class SidePanel {
  /** @param {Session} session */
  constructor(session) {
    this.session = session;
    /** @type {Cell | null} */
    this.cell = null;
    /** By id, the facts that were read. @type {Map<string, SessionFacts>} */
    this.facts = new Map();
    /** By class name. @type {Map<string, Promise<ClassReference>>} */
    this.classes = new Map();
    /** By id. @type {Map<string, InfluenceAnswer>} */
    this.influence = new Map();
    this.isReading = false;
    /** Why the last reading of facts failed. @type {unknown} */
    this.failed = null;
    /** What the body shows: an id, or `blind` and an id. @type {string | null} */
    this.drawn = null;
    /** @type {number | undefined} */
    this.later = undefined;
    this.slots = makeSlots();
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
    /** In the order of the page. @type {Comparable[]} */
    this.examples = [];
  }

  // -- reading ahead ------------------------------------------------------------------------------------------------

  /** Reads the facts of these cells; one request at a time. @param {Cell[]} cells */
  async ahead(cells) {
    const ids = cells
      .map(({ id }) => id)
      .filter((id) => !this.facts.has(id))
      .slice(0, BATCH);
    if (!ids.length || this.isReading) return;
    this.isReading = true;
    try {
      /** @type {Record<string, SessionFacts>} */
      const found = await request(address("dossiers", { run: this.session.data.run }), { ids });
      for (const [id, facts] of Object.entries(found)) this.facts.set(id, facts);
      this.failed = null;
    } catch (error) {
      this.failed = error;
    }
    this.isReading = false;
    if (this.facts.size > KEPT) for (const id of [...this.facts.keys()].slice(0, DROPPED)) this.facts.delete(id);
    this.session.factsCame(this.failed === null);
  }

  /** What a class means; empty, and read again the next time, where it cannot be read. @param {string} name */
  classOf(name) {
    const known = this.classes.get(name);
    if (known) return known;
    /** @type {Promise<ClassReference>} */
    const read = request(address("class", { name, run: this.session.data.run }));
    const found = read.catch(() => {
      this.classes.delete(name);
      return { name, text: "", gold: [], typical: [] };
    });
    this.classes.set(name, found);
    return found;
  }

  // -- drawing ------------------------------------------------------------------------------------------------------

  /** Draws what must be there with the picture: label and suggestion, and their keys. @param {Cell} cell */
  show(cell) {
    this.cell = cell;
    if (this.facts.get(cell.id)?.hidden) this.facts.delete(cell.id); // they may be shown by now
    this.drawHead(cell);
    this.paint(cell);
    if (this.drawn === cell.id || this.drawn === `blind ${cell.id}`) return;
    this.body.replaceChildren();
    this.node.scrollTop = 0;
  }

  /**
   * The cell with the model's opinion, which the server hides until the first verdict about a blind one.
   * @param {Cell} cell
   * @returns {Cell}
   */
  revealed(cell) {
    const isDecided = cell.blind && this.session.decisions.shown(cell.id).decision;
    const facts = isDecided ? this.facts.get(cell.id) : undefined;
    return facts && !facts.hidden ? { ...cell, ...facts.opinion, blind: false } : cell;
  }

  /** @param {Cell} shown */
  drawHead(shown) {
    const cell = this.revealed(shown);
    /** @type {HTMLElement[]} */
    const parts = [];
    if (cell.label !== null) {
      const group = cell.group ? `group ${cell.group}` : "";
      parts.push(this.answer("right", "Q", "label", "Label", cell.label, group));
    }
    if (cell.suggestion) {
      const source = `from ${cell.suggestion_source}`;
      parts.push(this.answer("suggested", "W", "prediction", "Suggested", cell.suggestion, source));
    }
    if (cell.blind) parts.push(quiet("Blind: scores and suggestion are hidden until the first verdict."));
    if (cell.prediction && cell.prediction !== cell.suggestion && cell.prediction !== cell.label)
      parts.push(quiet(`Prediction: ${cell.prediction}`));
    const at = [...this.head.children].findIndex((node) => node === document.activeElement);
    this.head.replaceChildren(...parts);
    const kept = parts[at];
    if (at >= 0) (kept instanceof HTMLButtonElement ? kept : this.session.viewport.node).focus({ preventScroll: true });
  }

  /**
   * A button that decides for a class.
   * @type {(name: string, key: string, role: string, what: string, text: string, note: string) => HTMLElement}
   */
  answer(name, key, role, what, text, note) {
    const { hub } = this.session;
    const ink = el("span", { class: `hl-ink-${role}`, "aria-hidden": "true" }, hub.glyphs[role] ?? "");
    return el(
      "button",
      {
        type: "button",
        class: `hl-answer hl-answer-${role}`,
        disabled: Boolean(hub.readOnly),
        on: { click: () => this.session.act(name), mousedown: keepFocus },
      },
      hub.readOnly ? null : keycap(key),
      el("span", { class: "hl-what" }, what),
      el("strong", { title: text, dir: "auto" }, ink, ` ${text}`),
      note ? el("span", { class: "hl-quiet" }, note) : null,
    );
  }

  /** @param {Cell} cell */
  paint(cell) {
    const { session } = this;
    this.decided.replaceChildren(...decisionLines(session.decisions.shown(cell.id), session.hub.glyphs));
    if (cell.blind && !this.facts.has(cell.id) && session.isWritten(cell.id)) session.readFacts();
    paintThumbs(session, this.body);
  }

  /** Draws everything else, once its facts are there. */
  draw() {
    const { cell, session } = this;
    if (!cell) return;
    const facts = this.facts.get(cell.id);
    if (cell.blind && !session.decisions.shown(cell.id).decision) this.drawBlind(cell);
    else if (facts && this.drawn !== cell.id) this.drawFacts(cell, facts);
    else if (!facts && this.failed) this.body.replaceChildren(quiet(`Facts cannot be read: ${reason(this.failed)}`));
  }

  /** @param {Cell} cell @param {SessionFacts} facts */
  drawFacts(cell, facts) {
    this.drawn = cell.id;
    if (cell.blind) this.drawHead(cell);
    if (facts.content) this.session.viewport.setContent(facts.content);
    const near = facts.neighbours;
    this.examples = near.map((one, at) => [one, `neighbour ${at + 1}: label ${one.label ?? "none"}`]);
    this.slots = makeSlots();
    const parts = [
      facts.hidden ? quiet(facts.hidden) : null,
      section("Precedents for look-alikes", precedents(facts.precedents)),
      this.slots.lookalikes,
      facts.hidden ? null : this.strip("Nearest neighbours", near, neighbourLabels(near), "neighbours"),
      this.slots.classes,
      this.slots.influence,
      section("Scores", scores(facts.scores), `Value, and percentile among ${facts.split} examples of the same label.`),
      section(
        "Class probabilities",
        bars(facts.probabilities, cell),
        "Softmax of the last checkpoint; in-sample on train.",
      ),
      section("Metadata", pairs(facts.metadata)),
      section("History", history(facts.history)),
    ];
    this.body.replaceChildren(...parts.filter(isThere));
    this.drawClasses(cell);
    clearTimeout(this.later);
    if (!facts.hidden) this.later = setTimeout(() => this.drawLater(cell), LATER);
  }

  /** Draws of a blind example only the meaning of its label. @param {Cell} cell */
  async drawBlind(cell) {
    const own = `blind ${cell.id}`;
    if (this.drawn === own) return;
    this.drawn = own;
    this.slots = makeSlots();
    this.examples = [];
    this.body.replaceChildren(this.slots.classes);
    this.drawClasses(cell);
    if (!cell.text && !cell.rows) return;
    /** @type {ExampleFacts | null} */
    const facts = await request(address("example", { id: cell.id, run: this.session.data.run })).catch(() => null);
    const isHere = this.cell === cell && this.drawn === own;
    if (isHere && facts?.content) this.session.viewport.setContent(unjudged(facts.content));
  }

  /** @type {(title: string, cells: Cell[], help: string | null, testid: string) => HTMLElement} */
  strip(title, cells, help, testid) {
    const { session } = this;
    const thumbs = cells.map((cell) =>
      thumb(session, cell, () => compare(session, cell), { label: `compare with ${cell.id}` }),
    );
    return strip(title, help, thumbs, testid);
  }

  /** @param {Cell} cell */
  async drawClasses(cell) {
    const slot = this.slots.classes;
    const names = [...new Set([cell.label, cell.suggestion].filter(isThere).filter(Boolean))];
    const known = await Promise.all(names.map((name) => this.classOf(name)));
    if (this.cell !== cell || this.slots.classes !== slot) return;
    slot.replaceChildren(...known.map((one) => this.classCard(cell, one)));
    for (const { name, gold, typical } of known) {
      this.addExamples(gold, () => `gold ${name}`);
      this.addExamples(typical, () => `typical ${name}`);
    }
    this.followExamples();
  }

  /** @param {Cell[]} cells @param {(cell: Cell) => string} caption */
  addExamples(cells, caption) {
    for (const cell of cells) this.examples.push([cell, caption(cell)]);
  }

  followExamples() {
    this.session.follow(
      this.examples.map(([one]) => one),
      "side",
    );
  }

  /** @param {Cell} cell @param {ClassReference} reference */
  classCard(cell, { name, text, gold, typical }) {
    const role = name === cell.label ? "label" : "suggestion";
    const isLong = text.split("\n").length > 4 || text.length > 220;
    const guide = el("p", { class: "hl-guide" }, text);
    const folded = isLong ? el("details", {}, el("summary", {}, `Guidelines for ${name}`), guide) : guide;
    return el(
      "div",
      { class: "hl-class", data: { testid: `class-${role}` } },
      text ? folded : null,
      gold.length ? this.strip(`Gold: ${name}`, gold, null, "gold") : null,
      this.strip(`Typical ${name}`, typical, typical.length ? null : "No typical example is known.", "typical"),
    );
  }

  /** Draws what takes longer, for those who stay: look-alikes and opponents. @param {Cell} cell */
  async drawLater(cell) {
    if (this.cell !== cell) return;
    const slot = this.slots.influence;
    this.drawLookalikes(cell);
    try {
      const answer = this.influence.get(cell.id) ?? (await readInfluence(this.session, [cell.id]));
      this.influence.set(cell.id, answer);
      if (this.cell !== cell || this.slots.influence !== slot) return; // left, and perhaps drawn again since
      slot.replaceChildren(...notes(answer));
      if (answer.used) {
        slot.append(this.strip("Strongest opponents", answer.opponents, OPPONENTS_HELP, "opponents"));
        this.addExamples(answer.opponents, ({ label }) => `opponent: label ${label ?? "none"}`);
      }
      this.followExamples();
    } catch (error) {
      if (this.cell === cell) slot.replaceChildren(quiet(`Opponents cannot be read: ${reason(error)}`));
    }
  }

  /** @param {Cell} cell */
  async drawLookalikes(cell) {
    const { session } = this;
    if (session.hub.readOnly) return; // they are there to be decided
    try {
      const { members } = await session.readLookalikes(cell);
      if (this.cell !== cell || members.length < 2) return;
      const open = el(
        "button",
        { type: "button", class: "hl-button", on: { click: () => session.act("lookalikes") } },
        `${plural(members.length - 1, "look-alike suspect")} `,
        keycap("A"),
      );
      this.slots.lookalikes.replaceChildren(open);
    } catch {
      // the key reads them again, and shows why they cannot be read
    }
  }
}

/** The most frequent labels of neighbours in words. @param {Cell[]} near */
function neighbourLabels(near) {
  if (!near.length) return "Not computed yet: hardlook score computes neighbours.";
  /** @type {Map<string | null, number>} */
  const counts = new Map();
  for (const { label } of near) counts.set(label, (counts.get(label) ?? 0) + 1);
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 3);
  const shares = most.map(([name, n]) => `${n} of ${near.length} are labelled ${name}`);
  return `${shares.join(", ")}. By features, nearest first.`;
}
