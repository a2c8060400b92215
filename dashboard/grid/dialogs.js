// Native dialogs: a searchable list of names, a note, the list of keys. Each answers with a promise.

/** @import { Marks } from "./types.js" */
/** @import { Child } from "./dom.js" */
import { button, el, isThere } from "./dom.js";
import { keysOf } from "./key_help.js";

const SHOWN = 200; // of a thousand classes, as many lines as anybody reads

/**
 * Opens a dialog in `root`. Returns the value that `finish` was called with; null when the dialog is closed otherwise.
 * @template T
 * @param {HTMLElement} root
 * @param {string} className
 * @param {string} label
 * @param {(finish: (value: T | null) => void) => Child[]} build
 * @returns {Promise<T | null>}
 */
export function open(root, className, label, build) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { class: `hl-dialog ${className}`, "aria-label": label });
    const finish = (/** @type {T | null} */ value) => {
      resolve(value); // at once, not with the close event: the next key may already be waiting
      dialog.close();
    };
    dialog.append(...build(finish).filter(isThere));
    dialog.addEventListener("keydown", stopHeldEnter, true);
    dialog.addEventListener("keydown", (event) => event.stopPropagation());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(null);
    });
    root.append(dialog);
    dialog.showModal();
  });
}

/**
 * A held Enter must not answer twice: the second answer would go to what lies under the dialog.
 * @param {KeyboardEvent} event
 */
function stopHeldEnter(event) {
  if (!event.repeat || event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  event.stopPropagation();
}

/** @param {string} title @param {string | null} [subject] */
export const heading = (title, subject) =>
  el("header", { class: "hl-head" }, el("h2", {}, title), subject ? el("p", { class: "hl-subject" }, subject) : null);

/** @param {() => void} cancel @param {HTMLElement | null} save */
const buttons = (cancel, save) => el("footer", { class: "hl-foot" }, button("Cancel", "Esc", cancel), save);

/**
 * Names that hold the letters typed, those that begin with them first.
 * @param {string[]} names
 * @param {string} typed
 */
export function matches(names, typed) {
  const letters = typed.trim().toLocaleLowerCase();
  if (!letters) return names;
  const rank = (/** @type {string} */ name) => {
    const text = name.toLocaleLowerCase();
    return text === letters ? 0 : text.startsWith(letters) ? 1 : 2;
  };
  return names.filter((name) => name.toLocaleLowerCase().includes(letters)).sort((a, b) => rank(a) - rank(b));
}

/**
 * A list of names that is searched by typing.
 * @typedef {object} Choice
 * @property {string} title
 * @property {string} subject
 * @property {string[]} names
 * @property {string[]} [first] names on top
 * @property {string[]} [chosen] names that are ticked
 * @property {boolean} [many] whether several may be chosen
 * @property {boolean} [none] whether none may be chosen of `many`
 */

/**
 * Lets somebody choose. Returns the names chosen, one name without `many`; null where the dialog was closed.
 * @param {HTMLElement} root
 * @param {Choice} choice
 * @returns {Promise<string[] | null>}
 */
export const choose = (root, choice) =>
  open(root, "hl-choose", choice.title, (finish) => new ChoiceList(choice, finish).parts());

/** The parts of the dialog in which names are chosen. */
class ChoiceList {
  /** @param {Choice} choice @param {(names: string[] | null) => void} finish */
  constructor({ title, subject, names, first = [], chosen = [], many = false, none = false }, finish) {
    const top = [...new Set(first)].filter((name) => names.includes(name));
    this.title = title;
    this.subject = subject;
    this.names = names;
    this.many = many;
    this.none = none;
    this.finish = finish;
    this.ordered = [...top, ...names.filter((name) => !top.includes(name))];
    this.ticked = new Set(chosen);
    this.found = this.ordered;
    this.at = 0;
    this.count = el("p", { class: "hl-count", role: "status" });
    this.list = el("div", {
      class: "hl-list",
      role: "listbox",
      id: "hl-choices",
      "aria-label": title,
      "aria-multiselectable": many ? "true" : null,
      // The field keeps the focus; a press on the list itself is one on its scrollbar.
      on: { mousedown: (event) => event.target !== event.currentTarget && event.preventDefault() },
    });
    this.field = el("input", {
      type: "text",
      class: "hl-field",
      placeholder: "Type letters of the name",
      autocomplete: "off",
      spellcheck: "false",
      role: "combobox",
      "aria-expanded": "true",
      "aria-controls": "hl-choices",
      "aria-label": title,
      autofocus: true,
      on: { input: () => this.search(), keydown: (event) => this.key(event) },
    });
  }

  parts() {
    const save = this.many ? button("Save", "Ctrl Enter", () => this.save(), { class: "hl-button hl-strong" }) : null;
    this.draw();
    return [
      heading(this.title, this.subject),
      this.field,
      this.list,
      this.count,
      buttons(() => this.finish(null), save),
    ];
  }

  search() {
    this.found = matches(this.ordered, this.field.value);
    this.at = 0;
    this.draw();
  }

  save() {
    if (this.none || this.ticked.size) this.finish(this.names.filter((name) => this.ticked.has(name)));
    else this.field.focus();
  }

  /** Chooses a name, or ticks it where several may be chosen. @param {string | undefined} name */
  take(name) {
    if (name === undefined) return;
    if (!this.many) {
      this.finish([name]);
      return;
    }
    if (!this.ticked.delete(name)) this.ticked.add(name);
    this.draw();
  }

  /** @param {number} step */
  move(step) {
    this.at = Math.max(0, Math.min(Math.min(this.found.length, SHOWN) - 1, this.at + step));
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step === undefined && event.key !== "Enter") return;
    event.preventDefault();
    if (step !== undefined) this.move(step);
    else if (this.many && (event.ctrlKey || event.metaKey)) this.save();
    else this.take(this.found[this.at]);
  }

  /** @param {string} name @param {number} place */
  line(name, place) {
    const { many, ticked, at } = this;
    return el(
      "div",
      {
        class: `hl-line${place === at ? " hl-here" : ""}`,
        role: "option",
        id: `hl-choice-${place}`,
        "aria-selected": String(many ? ticked.has(name) : place === at),
        on: { click: () => this.take(name), pointermove: () => place !== this.at && this.move(place - this.at) },
      },
      many ? el("span", { class: "hl-box", "aria-hidden": "true" }, ticked.has(name) ? "☑" : "☐") : null,
      name,
    );
  }

  draw() {
    const { found, names, at, many, ticked } = this;
    this.list.replaceChildren(...found.slice(0, SHOWN).map((name, place) => this.line(name, place)));
    const more = found.length > SHOWN ? `; the first ${SHOWN} are shown` : "";
    this.count.textContent = `${found.length} of ${names.length}${more}${many ? ` · ${ticked.size} chosen` : ""}`;
    this.field.setAttribute("aria-activedescendant", found.length ? `hl-choice-${at}` : "");
    this.list.children[at]?.scrollIntoView({ block: "nearest" });
  }
}

/**
 * Lets somebody write a note. Returns its text, or null. Enter saves, Shift Enter begins a new line.
 * @param {HTMLElement} root
 * @param {{title: string, subject: string}} about
 * @returns {Promise<string | null>}
 */
export function write(root, { title, subject }) {
  return open(root, "hl-write", title, (finish) => {
    const field = el("textarea", { class: "hl-field", rows: "4", "aria-label": title, autofocus: true });
    const save = () => (field.value.trim() ? finish(field.value) : field.focus());
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      save();
    });
    const saveButton = button("Save", "Enter", save, { class: "hl-button hl-strong" });
    return [heading(title, subject), field, buttons(() => finish(null), saveButton)];
  });
}

/** What each mark means. @param {Marks} marks */
export function legend(marks) {
  return el(
    "ul",
    { class: "hl-legend" },
    Object.entries(marks).map(([role, { mark, word }]) =>
      el("li", {}, el("span", { class: `hl-ink-${role}`, "aria-hidden": "true" }, mark), ` ${word}`),
    ),
  );
}

const ABOUT = {
  grid: "They act on the selected examples; where none is selected, on the one in focus.",
  session: "They act on the large example. A decision goes on to the next that is open.",
};

/** One line of the list of keys. @param {import("./key_help.js").KeyLine} line */
function keyRow([keys, help]) {
  const caps = keys.split(", ").map((key) => el("kbd", { class: "hl-key" }, key));
  return el("tr", {}, el("th", { scope: "row" }, caps), el("td", {}, help));
}

/**
 * Shows what each key does in a grid or in a session, and what each mark means.
 * @param {HTMLElement} root
 * @param {Marks} marks
 * @param {string | null} guidelines
 * @param {"grid" | "session"} [where]
 * @param {string | null} [readOnly] why the visitor may only look
 */
export function showKeys(root, marks, guidelines, where = "grid", readOnly = null) {
  const tables = keysOf(where, readOnly).map((lines) => el("table", { class: "hl-keys" }, lines.map(keyRow)));
  return open(root, "hl-help", "Keys", (finish) => [
    heading("Keys", readOnly || ABOUT[where]),
    el("div", { class: "hl-keycolumns" }, tables),
    legend(marks),
    guidelines
      ? el("details", {}, el("summary", {}, "Guidelines"), el("pre", { class: "hl-guidelines" }, guidelines))
      : null,
    el(
      "footer",
      { class: "hl-foot" },
      button("Close", "Esc", () => finish(null), { class: "hl-button hl-strong", autofocus: true }),
    ),
  ]);
}
