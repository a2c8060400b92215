// The bar above the grid: a button for every key, how many are selected, and whether everything is saved. Those who may
// only look have no button that would write to the log.

/** @import { Host } from "./types.js" */
/** @import { Action } from "./verdicts.js" */
import { button, el, keepFocus } from "./dom.js";
import { plural } from "./format.js";
import { actions, UNDO } from "./verdicts.js";

const KEYS = { name: "keys", title: "Keys", key: "?", help: "what each key does" };
const LONG = 36; // letters that stand in the bar of a session; longer messages lie over the picture
const SHOWN_FOR = 6000; // milliseconds

export class Toolbar {
  /** @param {Host} host */
  constructor(host) {
    this.host = host;
    /** What the status showed last. @type {Status["kind"] | null} */
    this.last = null;
    /** @type {number | undefined} */
    this.fade = undefined;
    this.count = el("span", { class: "hl-selected" });
    this.influence = button("Influence", "I", () => host.act("influence"), {
      class: "hl-button hl-over",
      title: "the most influential training examples for the selection: its strongest opponents and proponents",
      hidden: true,
    });
    this.status = el("span", { class: "hl-pill", data: { testid: "save-status" } });
    this.message = el("span", { class: "hl-message" });
    this.live = el("span", { class: "hl-hidden", role: "status", "aria-live": "polite" });
    const all = actions().map((action) => ({ ...action, key: action.key.toUpperCase() }));
    this.node = el(
      "div",
      { class: "hl-toolbar", role: "toolbar", "aria-label": "Decide" },
      (host.hub.readOnly ? [KEYS] : [...all, UNDO, KEYS]).map((action) => this.button(action)),
      el("span", { class: "hl-gap" }),
      this.influence,
      this.message,
      this.count,
      this.status,
      this.live,
    );
    if (host.hub.readOnly) this.status.title = host.hub.readOnly;
  }

  /** @param {Action} action */
  button({ name, title, key, help }) {
    const made = button(title, key, () => this.host.act(name), { title: help, data: { act: name } });
    made.addEventListener("mousedown", keepFocus); // on the example
    return made;
  }

  drawCount() {
    const n = this.host.selected.size;
    this.count.textContent = n ? `${n} selected` : "";
    this.influence.hidden = n === 0;
  }

  /** "saved" is shown only when the log has acknowledged everything. */
  drawStatus() {
    const { kind, text, help } = statusOf(this.host);
    this.status.className = `hl-pill hl-pill-${kind}`;
    this.status.textContent = text;
    this.status.title = help;
    if (kind === "saved" && this.last === "busy") this.announce("saved");
    if (kind === "bad" && this.last !== "bad") this.announce(text);
    this.last = kind;
  }

  /** Shows a message for a while in the bar, and to screen readers. @param {string} text */
  showMessage(text) {
    this.message.textContent = text;
    this.message.title = text;
    this.message.classList.toggle("hl-long", text.length > LONG);
    this.host.exampleDialog.showMessage(text);
    this.announce(text);
    clearTimeout(this.fade);
    this.fade = setTimeout(() => this.clearMessage(), SHOWN_FOR);
  }

  clearMessage() {
    this.message.textContent = "";
    this.host.exampleDialog.showMessage("");
  }

  /** @param {string} text */
  announce(text) {
    this.live.textContent = text;
  }
}

/** @typedef {{kind: "quiet" | "saved" | "busy" | "bad", text: string, help: string}} Status */

/** Whether everything is saved, and why not. @param {Host} host @returns {Status} */
function statusOf({ queue, hub }) {
  const n = queue.waiting.length;
  const last = queue.refused.at(-1);
  if (hub.readOnly) return { kind: "quiet", text: "read-only", help: hub.readOnly };
  if (last) {
    const rest = n ? `, ${n} saving…` : "";
    return {
      kind: "bad",
      text: `${queue.refused.length} not saved${rest}`,
      help: `${last.example_id}: ${last.reason}`,
    };
  }
  if (!n) return { kind: "saved", text: "saved", help: "The log holds every decision made here." };
  const where = queue.kept ? "kept here" : "not kept if this page closes";
  const help = queue.trouble?.message ?? "";
  if (queue.stopped()) return { kind: "bad", text: `${n} not saved, ${where}`, help };
  if (queue.trouble) return { kind: "bad", text: `offline, ${n} ${where}, retrying`, help };
  return { kind: "busy", text: `${n} saving…`, help: `${plural(n, "event")} on the way to the log` };
}
