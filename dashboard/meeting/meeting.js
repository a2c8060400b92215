// The meeting's screen. Everything that comes from people is written as text, never as markup.
//
// Streamlit takes one script for this component, so its few building blocks are in it.

/** @import { Answer, Component, Home, Item, MeetingState, OpenMeeting } from "./types.js" */

const EVERY = 700; // milliseconds between two polls: with drawing, everybody is there within two seconds
const KEYS =
  "← → move · 1–9 add a vote, Shift removes one · Enter the outcome, where 1–9 choose · Ctrl+Enter record · Esc close";
const MOVES = new Map([
  ["ArrowRight", 1],
  ["PageDown", 1],
  ["ArrowLeft", -1],
  ["PageUp", -1],
]);
const OURS = [...MOVES.keys(), "Enter", "Escape"];

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * An element with attributes and children; "on…" are listeners. What is null, false or an empty text is left out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | boolean | null | ((event: Event) => unknown)>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) if (child) made.append(child);
  return made;
}

/**
 * A key or click whose act the server does not have yet: what it does, how it is shown until then, and the votes or
 * places that it changes.
 * @typedef {{does: () => unknown, sign?: string, vote?: {number: number, by: number}, move?: number}} Pressed
 */

/** The nearest ancestor of an event's target that matches. @param {Event} event @param {string} selector */
const closest = (event, selector) => (event.target instanceof Element ? event.target.closest(selector) : null);

class Screen {
  /** @param {Component} component */
  constructor(component) {
    this.component = component;
    this.root = el("div", { class: "hl-meeting", "data-testid": "meeting", tabindex: "-1" });
    component.parentElement.append(this.root);
    /** @type {MeetingState | null} */
    this.state = null;
    /** The mark of the state that is known. */
    this.known = "";
    /** The form of the outcome, while it is open. @type {HTMLFormElement | null} */
    this.form = null;
    /** When the page was last requested, in milliseconds. */
    this.requested = 0;
    /** How many acts were sent: a poll from before one must not undo what it changed. */
    this.acts = 0;
    /** What was pressed while an act is under way. @type {Pressed[]} */
    this.waiting = [];
    /** The act under way. @type {Pressed | null} */
    this.current = null;
    this.busy = false;
    this.isPolling = false;
    this.isOffline = false;
    this.status = el("p", { class: "hl-meeting-status", role: "status", "aria-live": "polite" });
    this.pending = el("p", { class: "hl-meeting-pending", "data-testid": "meeting-pending" });
    this.onKey = (/** @type {KeyboardEvent} */ event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
    this.timer = setInterval(() => this.poll(), EVERY);
    this.poll();
  }

  close() {
    clearInterval(this.timer);
    document.removeEventListener("keydown", this.onKey);
    this.root.remove();
  }

  /** The open meeting; null where none is open or known yet. */
  get open() {
    return this.state?.open ? this.state : null;
  }

  /** Whether the visitor leads the open meeting. */
  get leads() {
    return this.component.data.leads && this.open !== null;
  }

  // -- following

  async poll() {
    if (this.isPolling) return;
    this.isPolling = true;
    try {
      await this.look();
    } catch {
      this.isOffline = true;
      this.showMessage("No connection to the server; trying again.");
    } finally {
      this.isPolling = false;
    }
  }

  async look() {
    const { acts } = this;
    const reply = await fetch(`/hardlook/meeting?known=${encodeURIComponent(this.known)}`, {
      signal: AbortSignal.timeout(10 * EVERY), // a request lost on the way must not end the following
    });
    if (!reply.ok) {
      this.showMessage(await reply.text());
      return;
    }
    /** @type {MeetingState | {same: true}} */
    const state = await reply.json();
    if (!("same" in state) && acts === this.acts) this.take(state);
    this.requestPage();
    if (this.isOffline) this.showMessage("");
    this.isOffline = false;
  }

  /** @param {MeetingState} state */
  take(state) {
    const before = this.open;
    const wasKnown = this.state !== null;
    this.state = state;
    this.known = state.known;
    if (wasKnown && before?.at !== this.open?.at) this.form = null;
    if (!this.form) this.draw();
    this.requestPage();
  }

  /**
   * The page around this screen was drawn for one meeting, or for none: requests the page again where that is over.
   * Again after a while, since a page that is busy may miss it.
   */
  requestPage() {
    const number = this.open ? this.open.number : null;
    if (!this.state || number === (this.component.data.meeting ?? null)) return;
    if (Date.now() - this.requested < 5 * EVERY) return;
    this.requested = Date.now();
    this.component.setTriggerValue("changed", `${number} ${this.requested}`);
  }

  /** @param {string} text */
  showMessage(text) {
    this.status.textContent = text;
  }

  // -- acting

  /**
   * Acts one after the other: a key is meant for the state that the acts before it bring. Enter after → opens the next
   * item, and nothing where → did not arrive.
   * @param {() => unknown} does returns false where the acts after it must not follow
   * @param {Omit<Pressed, "does">} [shown] how the act is shown until the server has it
   */
  async inTurn(does, shown = {}) {
    this.waiting.push({ does, ...shown });
    this.drawPending();
    if (this.busy) return;
    this.busy = true;
    try {
      for (let next = this.waiting.shift(); next; next = this.waiting.shift()) {
        this.current = next;
        if ((await next.does()) === false) this.waiting = [];
        this.current = null;
        this.drawPending();
      }
    } finally {
      this.busy = false;
      this.current = null;
      this.waiting = [];
      this.drawPending();
    }
  }

  /** Shows what was pressed before the server has answered: the votes, the place, and the keys in their order. */
  drawPending() {
    const pressed = [this.current, ...this.waiting].filter((one) => one !== null);
    const signs = pressed.map((one) => one.sign).filter(Boolean);
    this.pending.textContent = signs.length ? `being sent: ${signs.join(" ")}` : "";
    if (!this.open) return;
    const { at, of, item } = this.open;
    const moved = pressed.reduce((sum, one) => Math.max(0, Math.min(of - 1, sum + (one.move ?? 0))), at);
    const place = this.root.querySelector("[data-testid=meeting-place]");
    if (place) place.textContent = `${moved + 1} of ${of}`;
    place?.classList.toggle("hl-is-pending", moved !== at);
    const end = pressed.findIndex((one) => one.move);
    const votes = pressed.slice(0, end < 0 ? pressed.length : end).map((one) => one.vote);
    item.answers.forEach(({ text }, number) => {
      const by = votes.reduce((sum, vote) => sum + (vote?.number === number ? vote.by : 0), 0);
      const output = this.root.querySelector(`[data-answer="${CSS.escape(text)}"]`);
      if (output) output.textContent = String(Math.max(0, (item.tally[text] ?? 0) + by));
      output?.classList.toggle("hl-is-pending", by !== 0);
    });
  }

  /**
   * Sends a lead's act; false where it was not recorded.
   * @param {string} act
   * @param {OpenMeeting} meeting
   * @param {object} more
   */
  async act(act, { at }, more) {
    this.acts += 1;
    const body = JSON.stringify({ audit: this.component.data.audit, act, at, ...more });
    try {
      const reply = await fetch("/hardlook/meeting", {
        method: "POST",
        headers: { "content-type": "application/json", "x-hardlook": "1" },
        body,
      });
      if (!reply.ok) {
        this.showMessage(await reply.text());
        return false;
      }
      this.showMessage("");
      this.take(await reply.json());
      return true;
    } catch {
      this.showMessage("No connection to the server; nothing was recorded.");
      return false;
    }
  }

  /** @param {number} by */
  move(by) {
    return this.open ? this.act("move", this.open, { by }) : null;
  }

  /** Adds votes for an answer. @param {number} number @param {number} by */
  vote(number, by) {
    const answer = this.open?.item.answers[number];
    return this.open && answer ? this.act("hands", this.open, { answer: answer.text, by }) : null;
  }

  /**
   * Acts on a click, which means the item that it was made on.
   * @param {number} at
   * @param {() => unknown} does
   * @param {Omit<Pressed, "does">} [shown]
   */
  clicked(at, does, shown = {}) {
    this.inTurn(() => (this.open?.at === at ? does() : null), shown);
  }

  // -- keys

  /** @param {KeyboardEvent} event */
  key(event) {
    const field = closest(event, "input, textarea, select, [contenteditable]");
    if (!this.leads || event.altKey || event.metaKey) return;
    const digit = Number(/^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1] ?? 0);
    if (event.repeat && (digit || event.key === "Enter" || this.busy)) {
      if (field?.tagName !== "TEXTAREA") event.preventDefault(); // a held Enter must not record what it has just opened
      return;
    }
    const shown = field ? {} : this.shownAs(event, digit);
    if (!this.busy) this.inTurn(() => this.press(event, field, digit), shown);
    else if (!field && (digit || OURS.includes(event.key))) {
      event.preventDefault();
      this.inTurn(() => this.press(event, null, digit), shown);
    }
  }

  /**
   * How a key is shown until the server has its act.
   * @param {KeyboardEvent} event
   * @param {number} digit
   * @returns {Omit<Pressed, "does">}
   */
  shownAs(event, digit) {
    const isInForm = this.form || this.waiting.some(({ sign }) => sign === "Enter");
    const move = MOVES.get(event.key);
    if (event.ctrlKey || isInForm) return {};
    if (move) return { move, sign: move > 0 ? "→" : "←" };
    if (event.key === "Enter" && this.busy) return { sign: "Enter" };
    if (!digit || digit > (this.open?.item.answers.length ?? 0)) return {};
    const by = event.shiftKey ? -1 : 1;
    return { vote: { number: digit - 1, by }, sign: by > 0 ? String(digit) : `−${digit}` };
  }

  /**
   * Carries out a key, and returns the act that it sends.
   * @param {KeyboardEvent} event
   * @param {Element | null} field
   * @param {number} digit 0 for none
   */
  press(event, field, digit) {
    if (this.form) return this.pressInForm(this.form, event, field, digit);
    if (field || event.ctrlKey) return null;
    let sent = null;
    const by = MOVES.get(event.key);
    if (by) sent = this.move(by);
    else if (digit) sent = this.vote(digit - 1, event.shiftKey ? -1 : 1);
    else if (event.key === "Enter" && !closest(event, "button, a")) this.openForm();
    else return null;
    event.preventDefault();
    return sent;
  }

  /** @param {HTMLFormElement} form @param {KeyboardEvent} event @param {Element | null} field @param {number} digit */
  pressInForm(form, event, field, digit) {
    let sent = null;
    const isFree = !field || (field instanceof HTMLInputElement && field.type === "radio");
    const choice =
      digit && !event.ctrlKey && isFree ? form.querySelector(`input[name=answer][value="${digit - 1}"]`) : null;
    if (event.key === "Escape") this.shut();
    else if (event.key === "Enter" && event.ctrlKey) sent = this.record(form);
    else if (choice instanceof HTMLInputElement) {
      choice.checked = true;
      choice.focus();
    } else return null;
    event.preventDefault();
    return sent;
  }

  // -- drawing

  draw() {
    const meeting = this.open;
    if (meeting) this.root.replaceChildren(this.header(meeting), this.body(meeting), this.pending, this.status);
    else {
      this.root.replaceChildren(
        el("p", {}, "No meeting is open. This page follows as soon as a lead opens one."),
        this.status,
      );
    }
    if (meeting && this.leads) this.root.append(el("p", { class: "hl-meeting-keys" }, KEYS));
    this.drawPending();
  }

  /** @param {OpenMeeting} meeting */
  header({ at, of, item, lead, present }) {
    const step = (
      /** @type {number} */ by,
      /** @type {string} */ arrow,
      /** @type {string} */ label,
      /** @type {boolean} */ disabled,
    ) =>
      this.leads &&
      el(
        "button",
        {
          onclick: () => this.inTurn(() => this.move(by), { move: by, sign: arrow }),
          disabled,
          "aria-label": label,
        },
        arrow,
      );
    return el(
      "header",
      {},
      step(-1, "←", "Previous item", at === 0),
      el("strong", { "data-testid": "meeting-place" }, `${at + 1} of ${of}`),
      step(1, "→", "Next item", at + 1 >= of),
      el("h2", {}, item.title),
      el("span", { class: "hl-meeting-why" }, item.why),
      el("span", { class: "hl-meeting-lead" }, `led by ${lead} · present: ${present.join(", ")}`),
    );
  }

  /** @param {OpenMeeting} meeting */
  body({ at, item }) {
    const outcome = el(
      "button",
      { class: "hl-meeting-main", onclick: () => this.clicked(at, () => this.openForm()) },
      "Outcome (Enter)",
    );
    return el(
      "div",
      { class: "hl-meeting-body" },
      pictures(item),
      el(
        "div",
        { class: "hl-meeting-facts" },
        el("p", {}, "Label: ", el("strong", { dir: "auto" }, item.label ?? "none")),
        el("h3", {}, "Decisions"),
        decisions(item),
        this.form,
        this.form ? null : el("h3", {}, "Votes"),
        this.form
          ? null
          : el(
              "ol",
              { class: "hl-meeting-answers" },
              ...item.answers.map((_, number) => this.answer(at, item, number)),
            ),
        ...precedents(item),
        item.outcome
          ? el("p", { class: "hl-meeting-outcome", "data-testid": "outcome" }, `Decided: ${item.outcome}`)
          : null,
        this.leads && !this.form ? outcome : null,
      ),
    );
  }

  /** An answer with its votes, and a lead's buttons. @param {number} at @param {Item} item @param {number} number */
  answer(at, item, number) {
    const text = item.answers[number]?.text ?? "";
    const button = (/** @type {number} */ by, /** @type {string} */ sign, /** @type {string} */ label) =>
      this.leads &&
      el(
        "button",
        {
          onclick: () => {
            const shown = { vote: { number, by }, sign: by > 0 ? String(number + 1) : `−${number + 1}` };
            this.clicked(at, () => this.vote(number, by), shown);
          },
          "aria-label": label,
        },
        sign,
      );
    return el(
      "li",
      {},
      this.leads && el("kbd", {}, String(number + 1)),
      el("span", { dir: "auto" }, text),
      el("output", { "data-answer": text }, String(item.tally[text] ?? 0)),
      button(1, "+", `one more for ${text}`),
      button(-1, "−", `one less for ${text}`),
    );
  }

  // -- the outcome

  openForm() {
    if (!this.open) return;
    const form = outcomeForm(this.open.item);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.inTurn(() => this.form && this.record(this.form));
    });
    form.append(el("button", { type: "button", onclick: () => this.shut() }, "Close (Esc)"));
    this.form = form;
    this.draw();
    const field = form.querySelector("input:checked") ?? form.querySelector("input");
    if (field instanceof HTMLInputElement) field.focus();
  }

  shut() {
    this.form = null;
    this.draw();
    this.root.focus();
  }

  /** Records the outcome; the form stays open where that fails. @param {HTMLFormElement} form */
  async record(form) {
    if (!this.open) return false;
    const outcome = outcomeOf(form, this.open.item.answers);
    this.form = null;
    const done = await this.act("record", this.open, outcome);
    if (!done) {
      this.form = form;
      this.draw();
    } else this.root.focus();
    return done;
  }
}

/** @param {Item} item */
function pictures(item) {
  const shown = item.examples.map((one) =>
    el(
      "figure",
      { "data-example-id": one.id },
      one.text !== null
        ? el("blockquote", { dir: "auto" }, one.text)
        : el("img", { src: one.image, alt: `example ${one.id}` }),
      el("figcaption", {}, one.label === null ? one.id : `${one.label} · ${one.id}`),
    ),
  );
  return el("div", { class: `hl-meeting-pictures ${shown.length > 1 ? "hl-many" : ""}` }, ...shown);
}

/** The reviewers' decisions about an item. @param {Item} item */
function decisions(item) {
  const lines = item.said.map(({ reviewer, answer }) =>
    el("li", { "data-reviewer": reviewer }, el("strong", {}, reviewer), ": ", el("span", { dir: "auto" }, answer)),
  );
  return el("ul", {}, ...(lines.length ? lines : [el("li", {}, "nobody has decided yet")]));
}

/** @param {Item} item */
function precedents(item) {
  if (!item.precedents.length) return [];
  const lines = item.precedents.map(({ text, meeting }) =>
    el("li", {}, el("span", { dir: "auto" }, text), el("small", {}, ` (meeting ${meeting})`)),
  );
  return [el("h3", {}, "Precedents for look-alikes"), el("ul", { "data-testid": "precedents" }, ...lines)];
}

/** The form of an outcome, the answer with most votes chosen. @param {Item} item */
function outcomeForm({ answers, tally }) {
  const votes = answers.map((answer) => tally[answer.text] ?? 0);
  const most = Math.max(...votes);
  const choices = answers.map((answer, number) =>
    el(
      "label",
      {},
      el("input", {
        type: "radio",
        name: "answer",
        value: String(number),
        checked: most > 0 && votes.indexOf(most) === number,
      }),
      el("kbd", { "aria-hidden": "true" }, String(number + 1)),
      el("span", { dir: "auto" }, answer.text),
    ),
  );
  const area = (/** @type {string} */ name, /** @type {string} */ label) =>
    el("label", {}, label, el("textarea", { name, rows: "2", dir: "auto", maxlength: "10000" }));
  const kinds = ["", "merge", "split"].map((one) => el("option", { value: one }, one || "none"));
  return el(
    "form",
    { class: "hl-meeting-form", "aria-label": "Outcome" },
    el("h3", {}, "Outcome"),
    el("div", { class: "hl-meeting-choices" }, ...choices),
    area("note", "Reason"),
    area("precedent", "Precedent: a rule to show beside look-alikes (optional)"),
    el(
      "details",
      {},
      el("summary", {}, "Change of classes (optional)"),
      el("label", {}, "Kind", el("select", { name: "kind" }, ...kinds)),
      area("from", "From, one class a line"),
      area("to", "To, one class a line"),
    ),
    el("button", { type: "submit", class: "hl-meeting-main" }, "Record (Ctrl+Enter)"),
  );
}

/** What a filled form records. @param {HTMLFormElement} form @param {Answer[]} answers */
function outcomeOf(form, answers) {
  const fields = new FormData(form);
  const text = (/** @type {string} */ name) => String(fields.get(name) ?? "");
  const lines = (/** @type {string} */ name) =>
    text(name)
      .split("\n")
      .filter((line) => line.trim());
  const answer = fields.has("answer") ? answers[Number(text("answer"))] : undefined;
  return {
    verdict: answer?.verdict ?? null,
    new_label: answer?.new_label ?? null,
    labels: answer?.labels ?? [],
    note: text("note") || null,
    precedent: text("precedent") || null,
    classes: text("kind") ? { kind: text("kind"), from: lines("from"), to: lines("to") } : null,
  };
}

/** @param {Component} component */
export default function mount(component) {
  /** @type {Home} */
  const home = component.parentElement;
  if (home.hardlookMeeting) home.hardlookMeeting.component = component;
  else home.hardlookMeeting = new Screen(component);
  return () => {
    home.hardlookMeeting?.close();
    delete home.hardlookMeeting;
  };
}
