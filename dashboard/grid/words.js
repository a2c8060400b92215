// What a key does and how a decision is written: one table that keys, buttons, badges and the help all read. Its verdicts
// are those of `scoring.verdict_kinds`, which come with the page's data.

let verdicts = []; // {name, act, key, title, help, bulk, badge, takes, true, …}

/** Take the verdicts that the page's data has. */
export const learn = (table) => (verdicts = table);

/** The verdict whose button or key this act is; undefined where it is none's. */
export const verdictOf = (act) => verdicts.find((one) => one.act === act);

const SUGGESTED = { key: "w", name: "suggested", title: "Suggested", help: "the suggested label is right" };
const REMARKS = [
  { key: "x", name: "issue", title: "Issue…", help: "an issue from the list" },
  { key: "f", name: "flag", title: "Flag", help: "flag for discussion, or take the flag back" },
  { key: "n", name: "note", title: "Note…", help: "write a note" },
];

/** All that can be said of an example, in the order of the buttons. */
export function actions() {
  const [first, ...rest] = verdicts.map(({ key, act, title, help }) => ({ key, name: act, title, help }));
  return [first, SUGGESTED, ...rest, ...REMARKS].filter(Boolean);
}

/** What can be said of many examples at once. */
export function bulkActions(suggestion) {
  const [first, ...rest] = verdicts.filter(({ bulk }) => bulk).map(({ key, act, bulk }) => ({ key, name: act, title: bulk }));
  return [first, { ...SUGGESTED, title: `All → ${suggestion}` }, ...rest].filter(Boolean);
}

export const UNDO = {
  name: "undo",
  title: "Undo",
  key: "⌫",
  help: "undo the last act, a bulk act as one; Ctrl Z does the same",
};

const SAYS = "says"; // keys that write to the log: not shown to whom they do not obey

const BOTH = [
  ["0 to 9", "the class of that name, else the first to the tenth class", SAYS],
  ["Ctrl Z, Backspace", "undo, a bulk act as one", SAYS],
  ["I", "the training examples behind it: opponents and proponents"],
  ["Enter", "open, with all that is known"],
  ["M", "the VoG map over the picture, in an opened example and in a session"],
  ["Z, + −, Shift arrows", "1 to 1, zoom, pan; the wheel and dragging do so too"],
  ["V", "window and level; the arrows then move the slider in focus"],
  ["?", "this list"],
];

/** What moves, by where the keys are pressed. */
const MOVES = {
  grid: [
    ["Click", "focus an example"],
    ["Ctrl click, Space", "select it, or not"],
    ["Shift click, Shift arrows", "select a range"],
    ["Arrows, Home, End", "move in reading order, through all panels"],
    ["Page Up, Page Down", "the page before, the next one"],
    ["Ctrl A, Esc", "select all, none"],
    ["Double click", "open"],
    ...BOTH,
  ],
  session: [
    ["Left, Right", "one example back or on; Page Up and Page Down ten"],
    ["Space", "skip to the next that is open"],
    ["Home, End", "the first that is open, the last that is loaded"],
    ["T, [, ]", "another example beside it, the one before, the next one"],
    ["G", "a gold example beside it"],
    ["Esc", "take away what is beside it"],
    ["A", "look-alike suspects, settled as one act", SAYS],
    ...BOTH,
  ],
};

/** What each key does in a grid or in a session, as [acts, moves]; of somebody who only looks, the keys that look. */
export function keysOf(where, readOnly) {
  const acts = actions().map((action) => [action.key.toUpperCase(), action.help]);
  return readOnly ? [MOVES[where].filter(([, , kind]) => kind !== SAYS)] : [acts, MOVES[where]];
}

/** The class that a digit means: the class called so; where no class is called by a digit, the first to the tenth. */
export function digitClass(classes, digit) {
  if (classes.some((name) => /^[0-9]$/.test(name))) return classes.includes(digit) ? digit : null;
  return classes[(Number(digit) + 9) % 10] ?? null;
}

/** A decision in a few words, with its mark. */
export function told(decision) {
  if (!decision) return "";
  const badge = verdicts.find(({ name }) => name === decision.verdict)?.badge ?? "";
  const chosen = { "{new_label}": () => decision.new_label, "{labels}": () => decision.labels.join(", ") };
  const verdict = badge.replace(/\{\w+\}/, (field) => chosen[field]());
  const issues = (decision.issues ?? []).map((issue) => `! ${issue}`);
  return [verdict, ...issues].filter(Boolean).join("  ");
}

/** A point in time as a person reads it. */
export function moment(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime())
    ? ""
    : time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

export const plural = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
