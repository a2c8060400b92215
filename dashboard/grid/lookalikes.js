// Look-alike suspects, decided with one key after all of them were previewed. Above 25 the key has to be pressed twice.
// How long each was on screen goes into its evidence: what was on screen for less than half a second is decided, but
// not inspected.

/** @import { Cell, LookalikesAnswer } from "./types.js" */
/** @import { Session } from "./session.js" */
import { eventsFor } from "./actions.js";
import { heading, open } from "./dialogs.js";
import { button, closest, el } from "./dom.js";
import { whenDrawn } from "./drawn.js";
import { plural } from "./format.js";
import { reason } from "./http.js";
import { isHeld, plainKey } from "./keys.js";
import { thumb } from "./thumbnails.js";
import { TimeOnScreen } from "./time_on_screen.js";
import { bulkActions } from "./verdicts.js";

const TITLE = "Look-alikes";
const MANY = 25;
const LEAST = 0.5; // seconds on screen from which on an example counts as inspected, as on the server
const REDRAW = 300; // milliseconds
const HELP = "Space takes one out, Enter shows it large. A key decides about all that are ticked, as one act.";

/**
 * Shows the look-alikes of the session's example, and decides about those that stay ticked.
 * @param {Session} session
 */
export async function reviewLookalikes(session) {
  const { hub, toolbar, here: cell } = session;
  if (hub.readOnly) return toolbar.showMessage(hub.readOnly);
  if (!cell || cell.blind) return toolbar.showMessage("A blind example is decided alone.");
  const found = await read(session, cell);
  if (!found) return undefined;
  if ("error" in found) return toolbar.showMessage(`Look-alikes cannot be read: ${reason(found.error)}`);
  if (found.members.length < 2) return toolbar.showMessage(found.note ?? "");
  session.follow(found.members);
  return new Preview(session, cell, found.members).show();
}

/**
 * Reads them under an open dialog, so that no key pressed meanwhile decides about the session's example. Null:
 * cancelled.
 * @param {Session} session
 * @param {Cell} cell
 * @returns {Promise<LookalikesAnswer | {error: unknown} | null>}
 */
function read(session, cell) {
  return open(session.layer, "hl-reading", TITLE, (finish) => {
    session.readLookalikes(cell).then(finish, (error) => finish({ error }));
    const note = el("p", { class: "hl-quiet", tabindex: "-1", autofocus: true }, "Reading …");
    const foot = el(
      "footer",
      { class: "hl-foot" },
      button("Cancel", "Esc", () => finish(null)),
    );
    return [heading(TITLE, cell.id), note, foot];
  });
}

/** The dialog in which look-alikes are previewed and decided. */
class Preview {
  /** @param {Session} session @param {Cell} cell @param {Cell[]} members */
  constructor(session, cell, members) {
    this.session = session;
    this.cell = cell;
    this.members = members;
    this.actions = bulkActions(cell.suggestion);
    this.ticked = new Set(members.map(({ id }) => id));
    /** Ids of the members that were shown large. @type {Set<string>} */
    this.opened = new Set();
    /** The action that waits for its confirmation. @type {{name: string, value: string | undefined} | null} */
    this.pending = null;
    this.count = el("p", { class: "hl-count", role: "status" });
    this.list = el("div", { class: "hl-strip hl-members", tabindex: "-1" });
    this.large = el("div", { class: "hl-large" });
    this.time = new TimeOnScreen(this.list);
    this.nodes = members.map((member) => this.node(member));
    /** @type {(decided: true | null) => void} */
    this.finish = () => {};
  }

  async show() {
    const timer = setInterval(() => this.draw(), REDRAW);
    const { cell, members } = this;
    const title = `${plural(members.length, "look-alike")}: label ${cell.label}, suggestion ${cell.suggestion}`;
    /** @type {true | null} */
    const decided = await open(this.session.layer, "hl-wide hl-lookalikes", title, (finish) => {
      this.finish = finish;
      this.list.replaceChildren(...this.nodes);
      this.draw();
      const body = el("div", { class: "hl-lookalikesbody" }, this.list, this.large);
      const on = { keydown: (/** @type {KeyboardEvent} */ event) => this.key(event) };
      return [el("div", { class: "hl-both", on }, heading(title, HELP), body, this.count, this.foot())];
    });
    clearInterval(timer);
    this.time.end();
    return decided;
  }

  /** @param {Cell} member */
  node(member) {
    const node = thumb(this.session, member, () => this.toggle(member.id), { label: `member ${member.id}` });
    node.setAttribute("aria-pressed", "true");
    node.addEventListener("dblclick", () => this.showLarge(member));
    node.addEventListener("keydown", (event) => this.memberKey(event, member));
    node.autofocus = member === this.members[0];
    this.time.watch(node, member.id);
    return node;
  }

  foot() {
    return el(
      "footer",
      { class: "hl-foot hl-tools" },
      this.actions.map(({ title, key, name }) => button(title, key.toUpperCase(), () => this.decide(name))),
      el("span", { class: "hl-gap" }),
      button("Cancel", "Esc", () => this.finish(null)),
    );
  }

  draw() {
    const { members, ticked, pending } = this;
    members.forEach(({ id }, at) => this.nodes[at]?.setAttribute("aria-pressed", String(ticked.has(id))));
    const unseen = members.filter(({ id }) => ticked.has(id) && !this.wasOnScreen(id)).length;
    const shown = unseen ? `; ${unseen} not on screen for half a second yet` : "; all were on screen";
    this.count.textContent = pending
      ? `Decide about ${ticked.size} examples at once? The same key once more, or Enter. Any other key goes back.`
      : `${ticked.size} of ${members.length} ticked${shown}`;
    this.count.classList.toggle("hl-ask", pending !== null);
  }

  /** @param {string} id */
  wasOnScreen(id) {
    return this.opened.has(id) || this.time.seconds(id) >= LEAST;
  }

  /** @param {string} id */
  toggle(id) {
    if (!this.ticked.delete(id)) this.ticked.add(id);
    this.pending = null;
    this.draw();
  }

  /** @param {Cell} member */
  showLarge(member) {
    const image = thumb(this.session, member, () => this.large.replaceChildren(), { label: "close" });
    this.large.replaceChildren(image);
    whenDrawn(image, () => {
      if (image.isConnected) this.opened.add(member.id);
      this.draw();
    });
  }

  /**
   * Decides about all that are ticked; of many, after the same action a second time.
   * @param {string} name
   * @param {string} [value]
   */
  async decide(name, value) {
    const { session, ticked, pending } = this;
    if (!ticked.size) return;
    const isConfirmed = pending?.name === name && pending.value === value;
    if (ticked.size > MANY && !isConfirmed) {
      this.pending = { name, value };
      this.draw();
      return;
    }
    const targets = this.members
      .map((cell, place) => ({ cell, panel: null, place }))
      .filter(({ cell }) => ticked.has(cell.id));
    const viewing = (/** @type {Cell} */ { id }) => ({
      seconds: null,
      opened: this.opened.has(id),
      on_screen: this.time.seconds(id),
      bulk: ticked.size,
    });
    const events = await eventsFor(session, targets, name, value, viewing);
    if (!events?.length) return;
    this.finish(true);
    session.hub.record(events, session);
  }

  /** A key on one member: moves, shows it large, takes it out. @param {KeyboardEvent} event @param {Cell} member */
  memberKey(event, member) {
    const row = columns(this.list);
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row }[event.key];
    if (step) this.nodes[this.members.indexOf(member) + step]?.focus();
    else if (event.key === "Enter" && !this.pending) this.showLarge(member);
    else if (event.key === " " && !this.pending) this.toggle(member.id);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const key = plainKey(event);
    const name = this.actions.find((one) => one.key === (key === "/" ? "l" : key))?.name;
    if (event.ctrlKey || event.metaKey || event.altKey || closest(event, "dialog .hl-choose")) return;
    const isDigit = /^[0-9]$/.test(key);
    const pending = key === "Enter" ? this.pending : null;
    if (isHeld(event))
      event.preventDefault(); // the same key once more confirms: a held one must not
    else if (pending || isDigit || name) {
      if (pending) this.decide(pending.name, pending.value);
      else if (isDigit) this.decide("digit", key);
      else if (name) this.decide(name);
      event.preventDefault();
    } else {
      if (key !== "Shift") this.pending = null;
      this.draw();
    }
  }
}

/** @param {Element} list */
const columns = (list) => getComputedStyle(list).gridTemplateColumns.split(" ").length;
