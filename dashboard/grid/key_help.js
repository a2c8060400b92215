// The list of keys, for a grid and for a session.

import { actions } from "./verdicts.js";

/** @typedef {[keys: string, help: string, kind?: string]} KeyLine */
/** @typedef {"grid" | "session"} Place */

const WRITES = "writes"; // keys that write to the log: not listed for those who may only look

/** @type {KeyLine[]} */
const BOTH = [
  ["0 to 9", "the class of that name, else the first to the tenth class", WRITES],
  ["Ctrl Z, Backspace", "undo, a bulk decision as one", WRITES],
  ["I", "the most influential training examples: opponents and proponents"],
  ["Enter", "open, with all facts"],
  ["M", "the VoG map over the picture, in an opened example and in a session"],
  ["Z, + −, Shift arrows", "1 to 1, zoom, pan; the wheel and dragging do so too"],
  ["V", "window and level; the arrows then move the slider in focus"],
  ["?", "this list"],
];

/** What moves, by where the keys are pressed. @type {Record<Place, KeyLine[]>} */
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
    ["A", "look-alike suspects, decided together", WRITES],
    ...BOTH,
  ],
};

/**
 * What each key does in a grid or in a session, as [actions, moves]; for those who may only look, the keys that look.
 * @param {Place} where
 * @param {string | null} readOnly
 * @returns {KeyLine[][]}
 */
export function keysOf(where, readOnly) {
  if (readOnly) return [MOVES[where].filter(([, , kind]) => kind !== WRITES)];
  return [actions().map(({ key, help = "" }) => [key.toUpperCase(), help]), MOVES[where]];
}
