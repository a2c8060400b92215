// What a key does and how a decision is written: one table that keys, buttons, badges and the help all read.

export const ACTIONS = [
  { key: "q", name: "right", title: "Right", help: "the given label is right" },
  { key: "w", name: "suggested", title: "Suggested", help: "the suggested label is right" },
  {
    key: "l",
    name: "other",
    title: "Other…",
    help: "another label, from a list that can be searched; / does the same",
  },
  { key: "b", name: "several", title: "Several…", help: "several labels fit" },
  { key: "o", name: "none", title: "None", help: "no class fits" },
  { key: "u", name: "unsure", title: "Unsure", help: "unsure" },
  { key: "x", name: "issue", title: "Issue…", help: "an issue from the list" },
  { key: "f", name: "flag", title: "Flag", help: "flag for discussion, or take the flag back" },
  { key: "n", name: "note", title: "Note…", help: "write a note" },
];

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
  const acts = ACTIONS.map((action) => [action.key.toUpperCase(), action.help]);
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
  const verdicts = {
    given: () => "✓ right",
    other: () => `→ ${decision.new_label}`,
    several: () => `⧉ ${decision.labels.join(", ")}`,
    none: () => "∅ none fits",
    unsure: () => "? unsure",
  };
  const verdict = verdicts[decision.verdict]?.() ?? "";
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
