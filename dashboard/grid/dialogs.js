// Native dialogs: a searchable list of names, a note, the list of keys. Each answers with a promise.

import { button, el } from "./dom.js";
import { keysOf } from "./words.js";

const SHOWN = 200; // of a thousand classes, as many lines as anybody reads

/** Open a dialog in `root`; resolves to what `finish` was given, to null when it is closed otherwise. */
export function open(root, className, label, build) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { class: `hl-dialog ${className}`, "aria-label": label });
    const finish = (value) => {
      resolve(value); // at once, not with the close event: the next key may already be waiting
      dialog.close();
    };
    dialog.append(...build(finish));
    dialog.addEventListener("keydown", holdBack, true);
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

/** A held Enter must not answer twice: the second answer would go to what stands behind the dialog. */
function holdBack(event) {
  if (!event.repeat || event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  event.stopPropagation();
}

export const heading = (title, subject) =>
  el(
    "header",
    { class: "hl-head" },
    el("h2", {}, title),
    subject ? el("p", { class: "hl-subject" }, subject) : null,
  );

const buttons = (finish, save) =>
  el(
    "footer",
    { class: "hl-foot" },
    button("Cancel", "Esc", () => finish(null)),
    save,
  );

/** Names that hold the letters typed, those that begin with them first. */
export function matches(names, typed) {
  const letters = typed.trim().toLocaleLowerCase();
  if (!letters) return names;
  const found = names.filter((name) => name.toLocaleLowerCase().includes(letters));
  const rank = (name) => {
    const text = name.toLocaleLowerCase();
    return text === letters ? 0 : text.startsWith(letters) ? 1 : 2;
  };
  return found
    .map((name, at) => [rank(name), at, name])
    .sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .map((item) => item[2]);
}

/** Choose one name, or several with `many`; `first` stand on top, `chosen` are ticked. → name, list of names, or null. */
export function choose(root, { title, subject, names, first = [], chosen = [], many = false, none = false }) {
  const top = [...new Set(first)].filter((name) => names.includes(name));
  const ordered = [...top, ...names.filter((name) => !top.includes(name))];
  const ticked = new Set(chosen);
  return open(root, "hl-choose", title, (finish) => {
    let found = ordered;
    let at = 0;
    const list = el("div", {
      class: "hl-list",
      role: "listbox",
      id: "hl-choices",
      "aria-label": title,
      "aria-multiselectable": many ? "true" : null,
      on: { mousedown: (event) => event.target !== list && event.preventDefault() }, // the field keeps the focus
    });
    const field = el("input", {
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
    });
    const tell = el("p", { class: "hl-count", role: "status" });
    const save = many ? button("Save", "Ctrl Enter", () => done(), { class: "hl-button hl-strong" }) : null;
    const done = () =>
      none || ticked.size ? finish(names.filter((name) => ticked.has(name))) : field.focus();
    const take = (name) => {
      if (name === undefined) return;
      if (!many) return finish(name);
      if (!ticked.delete(name)) ticked.add(name);
      draw();
    };
    const line = (name, place) =>
      el(
        "div",
        {
          class: `hl-line${place === at ? " hl-here" : ""}`,
          role: "option",
          id: `hl-choice-${place}`,
          "aria-selected": String(many ? ticked.has(name) : place === at),
          on: { click: () => take(name), pointermove: () => place !== at && move(place - at) },
        },
        many ? el("span", { class: "hl-box", "aria-hidden": "true" }, ticked.has(name) ? "☑" : "☐") : null,
        name,
      );
    const draw = () => {
      list.replaceChildren(...found.slice(0, SHOWN).map(line));
      const more = found.length > SHOWN ? `; the first ${SHOWN} are shown` : "";
      tell.textContent = `${found.length} of ${names.length}${more}${many ? ` · ${ticked.size} chosen` : ""}`;
      field.setAttribute("aria-activedescendant", found.length ? `hl-choice-${at}` : "");
      list.children[at]?.scrollIntoView({ block: "nearest" });
    };
    const move = (step) => {
      at = Math.max(0, Math.min(Math.min(found.length, SHOWN) - 1, at + step));
      draw();
    };
    const keys = {
      ArrowDown: () => move(1),
      ArrowUp: () => move(-1),
      PageDown: () => move(10),
      PageUp: () => move(-10),
      Enter: (event) => (many && (event.ctrlKey || event.metaKey) ? done() : take(found[at])),
    };
    field.addEventListener("input", () => {
      found = matches(ordered, field.value);
      at = 0;
      draw();
    });
    field.addEventListener("keydown", (event) => {
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key](event);
    });
    draw();
    return [heading(title, subject), field, list, tell, buttons(finish, save)];
  });
}

/** Write a note. → its text, or null. Enter saves, Shift Enter begins a new line. */
export function write(root, { title, subject }) {
  return open(root, "hl-write", title, (finish) => {
    const field = el("textarea", { class: "hl-field", rows: "4", "aria-label": title, autofocus: true });
    const done = () => (field.value.trim() ? finish(field.value) : field.focus());
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      done();
    });
    const save = button("Save", "Enter", done, { class: "hl-button hl-strong" });
    return [heading(title, subject), field, buttons(finish, save)];
  });
}

/** What each mark means. */
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

/** Show what each key does in a grid or in a session, and what each mark means. readOnly: why somebody only looks. */
export function showKeys(root, marks, guidelines, where = "grid", readOnly = null) {
  const row = ([keys, help]) =>
    el(
      "tr",
      {},
      el(
        "th",
        { scope: "row" },
        keys.split(", ").map((key) => el("kbd", { class: "hl-key" }, key)),
      ),
      el("td", {}, help),
    );
  return open(root, "hl-help", "Keys", (finish) =>
    [
      heading("Keys", readOnly || ABOUT[where]),
      el("div", { class: "hl-keycolumns" }, keysOf(where, readOnly).map((some) => el("table", { class: "hl-keys" }, some.map(row)))),
      legend(marks),
      guidelines
        ? el(
            "details",
            {},
            el("summary", {}, "Guidelines"),
            el("pre", { class: "hl-guidelines" }, guidelines),
          )
        : null,
      el(
        "footer",
        { class: "hl-foot" },
        button("Close", "Esc", () => finish(null), { class: "hl-button hl-strong", autofocus: true }),
      ),
    ].filter(Boolean),
  );
}
