// The bar above the grid: a button for every key, how many are selected, and whether everything is saved. Who only looks
// has no button that would say something.

import { button, el } from "./dom.js";
import { actions, plural, UNDO } from "./words.js";

const KEYS = { name: "keys", title: "Keys", key: "?", help: "what each key does" };

const LONG = 36; // letters that stand in the bar of a session; longer messages lie over what is below

export class Toolbar {
  constructor(grid) {
    this.grid = grid;
    this.count = el("span", { class: "hl-selected" });
    this.behind = button("Behind them", "I", () => grid.act("behind"), {
      class: "hl-button hl-over",
      title: "the training examples behind the selection: its strongest opponents and proponents",
      hidden: true,
    });
    this.status = el("span", { class: "hl-pill", data: { testid: "save-status" } });
    this.message = el("span", { class: "hl-message" });
    this.live = el("span", { class: "hl-hidden", role: "status", "aria-live": "polite" });
    const all = actions().map((action) => ({ ...action, key: action.key.toUpperCase() }));
    this.node = el(
      "div",
      { class: "hl-toolbar", role: "toolbar", "aria-label": "Decide" },
      (grid.hub.readOnly ? [KEYS] : [...all, UNDO, KEYS]).map((action) => this.button(action)),
      el("span", { class: "hl-gap" }),
      this.behind,
      this.message,
      this.count,
      this.status,
      this.live,
    );
    if (grid.hub.readOnly) this.status.title = grid.hub.readOnly;
  }

  button({ name, title, key, help }) {
    const made = button(title, key, () => this.grid.act(name), { title: help, data: { act: name } });
    made.addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays on the example
    return made;
  }

  drawCount() {
    const n = this.grid.selected.size;
    this.count.textContent = n ? `${n} selected` : "";
    this.behind.hidden = n === 0;
  }

  /** "saved" is shown only when the log has acknowledged everything. */
  drawStatus() {
    const { queue, hub } = { queue: this.grid.queue, hub: this.grid.hub };
    const [kind, text, help] = status(queue, hub);
    this.status.className = `hl-pill hl-pill-${kind}`;
    this.status.textContent = text;
    this.status.title = help;
    if (kind === "saved" && this.last === "busy") this.announce("saved");
    if (kind === "bad" && this.last !== "bad") this.announce(text);
    this.last = kind;
  }

  /** Say something in passing: for a while in the bar, and to screen readers. */
  tell(text) {
    this.message.textContent = text;
    this.message.title = text;
    this.message.classList.toggle("hl-long", text.length > LONG);
    this.announce(text);
    clearTimeout(this.fade);
    this.fade = setTimeout(() => (this.message.textContent = ""), 6000);
  }

  announce(text) {
    this.live.textContent = text;
  }
}

function status(queue, hub) {
  const n = queue.waiting.length;
  if (hub.readOnly) return ["quiet", "read-only", hub.readOnly];
  if (queue.refused.length) {
    const last = queue.refused.at(-1);
    const rest = n ? `, ${n} saving…` : "";
    return ["bad", `${queue.refused.length} not saved${rest}`, `${last.example_id}: ${last.reason}`];
  }
  if (!n) return ["saved", "saved", "The log holds every decision made here."];
  const where = queue.kept ? "kept here" : "not kept if this page closes";
  if (queue.stopped()) return ["bad", `${n} not saved, ${where}`, queue.trouble.message];
  if (queue.trouble) return ["bad", `offline, ${n} ${where}, retrying`, queue.trouble.message];
  return ["busy", `${n} saving…`, `${plural(n, "event")} on the way to the log`];
}
