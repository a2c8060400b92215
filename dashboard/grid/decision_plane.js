// The decision plane through an opened vector: the model's decisions over two columns beside the labels of the nearest
// examples, points sized by a score. Drawn by `plane_figure.js`.

/** @import { Column } from "./types.js" */
/** @import { PlaneAnswer } from "./plane_figure.js" */
import { button, el, isThere, quiet } from "./dom.js";
import { address, reason, request } from "./http.js";
import { planeFigure } from "./plane_figure.js";

const EVERY = 700; // milliseconds between two polls of a job
const SAME_COLUMN = "Choose two different columns.";

/**
 * The columns and the score that were chosen, which outlive a redraw.
 * @typedef {{x?: string, y?: string, score?: string}} PlaneMemory
 */
/** @typedef {{id: string, run: string | null, rows: Column[], memory: PlaneMemory}} PlaneOptions */
/** @typedef {{node: HTMLElement, value: () => string}} Picker */

/**
 * The panel of an opened vector; null where it has fewer than two columns.
 * @param {PlaneOptions} options the most unusual columns first
 */
export function planePanel(options) {
  const [first, second] = options.rows.slice(0, 2).sort((a, b) => a.place - b.place);
  return first && second ? new PlanePanel(options, first, second).node : null;
}

class PlanePanel {
  /** @param {PlaneOptions} options @param {Column} first @param {Column} second */
  constructor({ id, run, rows, memory }, first, second) {
    const known = (/** @type {string | undefined} */ name, /** @type {Column} */ other) =>
      name !== undefined && rows.some(({ column }) => column === name) ? name : other.column;
    this.id = id;
    this.run = run;
    this.memory = memory;
    this.turn = 0; // counts the readings: a late answer is dropped
    this.x = picker("Right", rows, known(memory.x, first));
    this.y = picker("Up", rows, known(memory.y, second));
    this.stage = el("div", { class: "hl-planestage" });
    this.drawButton = button("Compute the plane", null, () => this.begin(), { data: { testid: "draw-cut" } });
    this.node = el(
      "section",
      { class: "hl-plane", data: { testid: "cut" } },
      el(
        "div",
        { class: "hl-planebar" },
        el("strong", {}, "Decision plane"),
        this.x.node,
        this.y.node,
        this.drawButton,
      ),
      this.stage,
    );
    for (const { node } of [this.x, this.y]) node.addEventListener("change", () => this.read());
    this.read();
  }

  columns() {
    return { x: this.x.value(), y: this.y.value() };
  }

  isOneColumn() {
    const { x, y } = this.columns();
    if (x === y) this.showMessage(SAME_COLUMN);
    return x === y;
  }

  /** @param {string} text */
  showMessage(text) {
    this.stage.replaceChildren(el("p", { class: "hl-quiet", "aria-live": "polite" }, text));
  }

  /**
   * Reads the plane or its job's state.
   * @param {boolean} again whether this is a poll, which ends when the panel is gone
   */
  async read(again = false) {
    const own = ++this.turn;
    if (this.isOneColumn()) return;
    Object.assign(this.memory, this.columns());
    try {
      const { id, run, memory } = this;
      /** @type {PlaneAnswer} */
      const answer = await request(address("cut", { id, run, ...this.columns(), score: memory.score }));
      if (own !== this.turn) return;
      this.show(answer);
      if (answer.state === "running" && (this.node.isConnected || !again))
        setTimeout(() => own === this.turn && this.read(true), EVERY);
    } catch (error) {
      if (own === this.turn) this.showMessage(`The decision plane cannot be read: ${reason(error)}`);
    }
  }

  /** Starts the job that computes the plane. */
  async begin() {
    if (this.isOneColumn()) return;
    this.turn += 1;
    try {
      await request("/hardlook/cut", { id: this.id, run: this.run, ...this.columns() });
      await this.read();
    } catch (error) {
      this.showMessage(reason(error));
    }
  }

  /** @param {PlaneAnswer} answer */
  show(answer) {
    this.drawButton.hidden = answer.state === "ready" || Boolean(answer.refusal);
    this.drawButton.disabled = answer.state === "running";
    if (answer.state === "ready") this.stage.replaceChildren(...planeFigure(answer, (score) => this.rescore(score)));
    else if (answer.state === "running") this.showMessage(answer.line ?? "");
    else {
      const why = answer.state === "failed" ? `The command failed: ${answer.line}` : answer.refusal;
      const parts = why
        ? [quiet(why), answer.command ? el("code", { class: "hl-command" }, answer.command) : null]
        : [];
      this.stage.replaceChildren(...parts.filter(isThere));
    }
  }

  /** @param {string} score */
  rescore(score) {
    this.memory.score = score;
    this.read();
  }
}

/** A list of columns. @type {(label: string, rows: Column[], chosen: string) => Picker} */
function picker(label, rows, chosen) {
  const options = rows.map((row) => {
    const node = el("option", { value: row.column }, row.unit ? `${row.name} (${row.unit})` : row.name);
    node.selected = row.column === chosen;
    return node;
  });
  const field = el("select", { class: "hl-field" }, options);
  field.addEventListener("keydown", (event) => event.stopPropagation()); // letters choose here, and decide nothing
  return { node: el("label", { class: "hl-planepick" }, `${label} `, field), value: () => field.value };
}
