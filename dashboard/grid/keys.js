// Which action a key stands for. A held key repeats: it goes on moving, but it decides once, since a second example
// must not be decided by a hand that rests on the first.

/** @import { Host } from "./types.js" */
import { closest } from "./dom.js";
import { actions } from "./verdicts.js";

const SLIDES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];
const REPEAT = [" ", "+", "=", "-", "[", "]"]; // held, these go on moving

/**
 * Whether a key belongs to the field that has the focus. A slider takes the keys that move it, and leaves the others.
 * @param {KeyboardEvent} event
 */
export function fieldTakes(event) {
  const field = closest(event, "input, textarea, select");
  if (!field) return false;
  const slider = field instanceof HTMLInputElement && field.type === "range";
  return !slider || (SLIDES.includes(event.key) && !event.shiftKey);
}

/** Whether a held key would repeat what is meant once: all keys but those that move. @param {KeyboardEvent} event */
export const isHeld = (event) =>
  event.repeat && (event.key.length === 1 ? !REPEAT.includes(event.key) : ["Enter", "Backspace"].includes(event.key));

/** Whether a key presses the button that has the focus; held, it presses it once. @param {KeyboardEvent} event */
export function presses(event) {
  if (!["Enter", " "].includes(event.key) || !closest(event, "button, summary, a")) return false;
  if (isHeld(event)) event.preventDefault();
  return true;
}

/** The key with letters in lower case. @param {{key: string}} event */
export const plainKey = (event) => (event.key.length === 1 ? event.key.toLowerCase() : event.key);

/**
 * The action that a key stands for, as [name, value]; null for none.
 * @param {Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "shiftKey" | "altKey">} event
 * @returns {[string, string?] | null}
 */
export function actionOf(event) {
  const command = event.ctrlKey || event.metaKey;
  const key = plainKey(event);
  if (key === "Backspace" || (command && key === "z" && !event.shiftKey)) return ["undo"];
  if (command || event.altKey) return null;
  if (/^[0-9]$/.test(key)) return ["digit", key];
  const own = new Map([
    ["?", "keys"],
    ["/", "other"],
    ["i", "influence"],
  ]).get(key);
  const name = own ?? actions().find((one) => one.key === key)?.name;
  return name ? [name] : null;
}

/**
 * Carries out the action of a key; false where it stands for none.
 * @param {Host} host
 * @param {KeyboardEvent} event
 */
export function actionKey(host, event) {
  const found = actionOf(event);
  if (found) host.act(...found);
  return found !== null;
}

/**
 * The class that a digit means: the class of that name; where no class is named by a digit, the first to the tenth.
 * @param {string[]} classes
 * @param {string} digit
 * @returns {string | null}
 */
export function digitClass(classes, digit) {
  if (classes.some((name) => /^[0-9]$/.test(name))) return classes.includes(digit) ? digit : null;
  return classes[(Number(digit) + 9) % 10] ?? null;
}
