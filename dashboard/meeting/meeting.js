// The meeting's screen. Everything that comes from people is written as text, never as markup.

const EVERY = 700; // milliseconds between two looks: with drawing, everybody is there within two seconds
const KEYS = "← → move · 1–9 count a hand, Shift takes one back · Enter the outcome, where 1–9 choose · Ctrl+Enter record · Esc close";
const OURS = ["ArrowRight", "ArrowLeft", "PageDown", "PageUp", "Enter", "Escape"];

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined && one !== "" && one !== false));
  return made;
}

class Screen {
  constructor(component) {
    this.component = component;
    this.root = el("div", { class: "hl-meeting", "data-testid": "meeting", tabindex: "-1" });
    component.parentElement.append(this.root);
    this.state = null;
    this.known = "";
    this.form = null;
    this.asked = 0;
    this.acts = 0; // how many acts were sent: a look from before one must not undo what it changed
    this.waiting = []; // what was pressed while an act is under way
    this.busy = false;
    this.said = el("p", { class: "hl-meeting-said", role: "status", "aria-live": "polite" });
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
    this.timer = setInterval(() => this.look(), EVERY);
    this.look();
  }

  close() {
    clearInterval(this.timer);
    document.removeEventListener("keydown", this.onKey);
    this.root.remove();
  }

  async look() {
    if (this.looking) return;
    this.looking = true;
    const { acts } = this;
    try {
      const reply = await fetch(`/hardlook/meeting?known=${encodeURIComponent(this.known)}`, {
        signal: AbortSignal.timeout(10 * EVERY), // a request lost on the way must not end the following
      });
      if (!reply.ok) return this.tell(await reply.text());
      const state = await reply.json();
      if (!state.same && acts === this.acts) this.take(state);
      this.askForPage();
      if (this.offline) this.tell("");
      this.offline = false;
    } catch {
      this.offline = true;
      this.tell("No connection to the server; trying again.");
    } finally {
      this.looking = false;
    }
  }

  take(state) {
    const before = this.state;
    this.state = state;
    this.known = state.known;
    if (before && before.at !== state.at) this.form = null;
    if (!this.form) this.draw();
    this.askForPage();
  }

  // What stands around this screen was drawn for one meeting, or for none: ask for the page again where that is over.
  // Asked again after a while, since a page that is busy may not hear it.
  askForPage() {
    const open = this.state?.open ? this.state.number : null;
    if (!this.state || open === (this.component.data.meeting ?? null)) return;
    if (Date.now() - this.asked < 5 * EVERY) return;
    this.asked = Date.now();
    this.component.setTriggerValue("changed", `${open} ${this.asked}`);
  }

  tell(text) {
    this.said.textContent = text;
  }

  get leads() {
    return this.component.data.leads && this.state?.open;
  }

  // One after the other: what is pressed is meant for what the acts before it bring. Enter after → opens the next item,
  // and nothing where → did not arrive.
  async turn(does) {
    this.waiting.push(does);
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.waiting.length) {
        if ((await this.waiting.shift()()) === false) this.waiting = [];
      }
    } finally {
      this.busy = false;
      this.waiting = [];
    }
  }

  async act(act, more = {}) {
    this.acts += 1;
    const body = JSON.stringify({ audit: this.component.data.audit, act, at: this.state.at, ...more });
    try {
      const reply = await fetch("/hardlook/meeting", {
        method: "POST",
        headers: { "content-type": "application/json", "x-hardlook": "1" },
        body,
      });
      if (!reply.ok) {
        this.tell(await reply.text());
        return false;
      }
      this.tell("");
      this.take(await reply.json());
      return true;
    } catch {
      this.tell("No connection to the server; nothing was recorded.");
      return false;
    }
  }

  key(event) {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (!this.state?.open || !this.leads || event.altKey || event.metaKey) return;
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1];
    if (event.repeat && (digit || event.key === "Enter" || this.busy)) {
      if (typing?.tagName !== "TEXTAREA") event.preventDefault(); // a held Enter must not record what it has just opened
      return;
    }
    if (!this.busy) this.turn(() => this.press(event, typing, digit));
    else if (!typing && (digit || OURS.includes(event.key))) {
      event.preventDefault();
      this.turn(() => this.press(event, null, digit));
    }
  }

  // What the key does, and the act that it sends.
  press(event, typing, digit) {
    let sent = null;
    if (this.form) {
      const choice = digit && !event.ctrlKey && this.form.querySelector(`input[name=answer][value="${digit - 1}"]`);
      if (event.key === "Escape") this.shut();
      else if (event.key === "Enter" && event.ctrlKey) sent = this.record();
      else if (choice && (!typing || typing.type === "radio")) {
        choice.checked = true;
        choice.focus();
      } else return null;
      event.preventDefault();
      return sent;
    }
    if (typing || event.ctrlKey) return null;
    const button = event.target.closest?.("button, a");
    if (event.key === "ArrowRight" || event.key === "PageDown") sent = this.move(1);
    else if (event.key === "ArrowLeft" || event.key === "PageUp") sent = this.move(-1);
    else if (digit) sent = this.hand(Number(digit) - 1, event.shiftKey ? -1 : 1);
    else if (event.key === "Enter" && !button) this.open();
    else return null;
    event.preventDefault();
    return sent;
  }

  move(by) {
    return this.act("move", { by });
  }

  hand(number, by) {
    const answer = this.state.item.answers[number];
    return answer ? this.act("hands", { answer: answer.text, by }) : null;
  }

  // A click means the item that it was made on.
  clicked(at, does) {
    this.turn(() => (this.state.at === at ? does() : null));
  }

  // -- drawing

  draw() {
    const { state } = this;
    if (!state.open) {
      this.root.replaceChildren(el("p", {}, "No meeting is open. This page follows as soon as a lead opens one."), this.said);
      return;
    }
    const { item } = state;
    this.root.replaceChildren(
      el(
        "header",
        {},
        this.leads && el("button", { onclick: () => this.turn(() => this.move(-1)), disabled: state.at === 0, "aria-label": "Previous item" }, "←"),
        el("strong", { "data-testid": "meeting-place" }, `${state.at + 1} of ${state.of}`),
        this.leads &&
          el("button", { onclick: () => this.turn(() => this.move(1)), disabled: state.at + 1 >= state.of, "aria-label": "Next item" }, "→"),
        el("h2", {}, item.title),
        el("span", { class: "hl-meeting-why" }, item.why),
        el("span", { class: "hl-meeting-lead" }, `led by ${state.lead} · present: ${state.present.join(", ")}`),
      ),
      el("div", { class: "hl-meeting-body" }, this.pictures(item), this.facts(item)),
      this.said,
      this.leads ? el("p", { class: "hl-meeting-keys" }, KEYS) : "",
    );
  }

  pictures(item) {
    const shown = item.examples.map((one) =>
      el(
        "figure",
        { "data-example-id": one.id },
        one.text !== null ? el("blockquote", { dir: "auto" }, one.text) : el("img", { src: one.image, alt: `example ${one.id}` }),
        el("figcaption", {}, one.label === null ? one.id : `${one.label} · ${one.id}`),
      ),
    );
    return el("div", { class: `hl-meeting-pictures ${shown.length > 1 ? "hl-many" : ""}` }, ...shown);
  }

  facts(item) {
    const { at } = this.state;
    const said = item.said.map((one) =>
      el("li", { "data-reviewer": one.reviewer }, el("strong", {}, one.reviewer), ": ", el("span", { dir: "auto" }, one.answer)),
    );
    const answers = item.answers.map((answer, number) =>
      el(
        "li",
        {},
        this.leads && el("kbd", {}, String(number + 1)),
        el("span", { dir: "auto" }, answer.text),
        el("output", { "data-answer": answer.text }, String(item.tally[answer.text] ?? 0)),
        this.leads && el("button", { onclick: () => this.clicked(at, () => this.hand(number, 1)), "aria-label": `one more for ${answer.text}` }, "+"),
        this.leads && el("button", { onclick: () => this.clicked(at, () => this.hand(number, -1)), "aria-label": `one less for ${answer.text}` }, "−"),
      ),
    );
    const precedents = item.precedents.map((one) =>
      el("li", {}, el("span", { dir: "auto" }, one.text), el("small", {}, ` (meeting ${one.meeting})`)),
    );
    return el(
      "div",
      { class: "hl-meeting-facts" },
      el("p", {}, "Label: ", el("strong", { dir: "auto" }, item.label ?? "none")),
      el("h3", {}, "What was said"),
      el("ul", {}, ...(said.length ? said : [el("li", {}, "nobody has decided yet")])),
      this.form,
      this.form ? "" : el("h3", {}, "Hands"),
      this.form ? "" : el("ol", { class: "hl-meeting-answers" }, ...answers),
      precedents.length ? el("h3", {}, "Precedents for look-alikes") : "",
      precedents.length ? el("ul", { "data-testid": "precedents" }, ...precedents) : "",
      item.outcome ? el("p", { class: "hl-meeting-outcome", "data-testid": "outcome" }, `Decided: ${item.outcome}`) : "",
      this.leads && !this.form ? el("button", { class: "hl-meeting-main", onclick: () => this.clicked(at, () => this.open()) }, "Outcome (Enter)") : "",
    );
  }

  // -- the outcome

  open() {
    const { item } = this.state;
    const votes = item.answers.map((answer) => item.tally[answer.text] ?? 0);
    const most = votes.indexOf(Math.max(...votes));
    const choices = item.answers.map((answer, number) =>
      el(
        "label",
        {},
        el("input", { type: "radio", name: "answer", value: String(number), checked: number === most && votes[most] > 0 }),
        el("kbd", { "aria-hidden": "true" }, String(number + 1)),
        el("span", { dir: "auto" }, answer.text),
      ),
    );
    const area = (name, label, rows = 2) =>
      el("label", {}, label, el("textarea", { name, rows: String(rows), dir: "auto", maxlength: "10000" }));
    this.form = el(
      "form",
      { class: "hl-meeting-form", "aria-label": "Outcome", onsubmit: (event) => (event.preventDefault(), this.turn(() => this.form && this.record())) },
      el("h3", {}, "Outcome"),
      el("div", { class: "hl-meeting-choices" }, ...choices),
      area("note", "Reason"),
      area("precedent", "Precedent: a rule to show beside look-alikes (optional)"),
      el(
        "details",
        {},
        el("summary", {}, "Change of classes (optional)"),
        el("label", {}, "Kind", el("select", { name: "kind" }, ...["", "merge", "split"].map((one) => el("option", { value: one }, one || "none")))),
        area("from", "From, one class a line"),
        area("to", "To, one class a line"),
      ),
      el("button", { type: "submit", class: "hl-meeting-main" }, "Record (Ctrl+Enter)"),
      el("button", { type: "button", onclick: () => this.shut() }, "Close (Esc)"),
    );
    this.draw();
    (this.form.querySelector("input:checked") ?? this.form.querySelector("input")).focus();
  }

  shut() {
    this.form = null;
    this.draw();
    this.root.focus();
  }

  async record() {
    const told = new FormData(this.form);
    const answer = this.state.item.answers[Number(told.get("answer") ?? -1)] ?? null;
    const lines = (name) => told.get(name).split("\n").filter((line) => line.trim());
    const classes = told.get("kind") ? { kind: told.get("kind"), from: lines("from"), to: lines("to") } : null;
    const form = this.form;
    this.form = null;
    const done = await this.act("record", {
      verdict: answer?.verdict ?? null,
      new_label: answer?.new_label ?? null,
      labels: answer?.labels ?? [],
      note: told.get("note") || null,
      precedent: told.get("precedent") || null,
      classes,
    });
    if (!done) {
      this.form = form;
      this.draw();
    } else this.root.focus();
    return done;
  }
}

export default function (component) {
  const home = component.parentElement;
  if (home.hardlookMeeting) home.hardlookMeeting.component = component;
  else home.hardlookMeeting = new Screen(component);
  return () => {
    home.hardlookMeeting?.close();
    delete home.hardlookMeeting;
  };
}
