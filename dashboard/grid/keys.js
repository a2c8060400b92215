// Which key is whose. A held key repeats: it goes on moving, but it decides once, since a second example must not be
// decided by a hand that rests on the first.

import { actions } from "./words.js";

const SLIDES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];
const REPEAT = [" ", "+", "=", "-", "[", "]"]; // held, these go on moving

/** Whether a key belongs to the field that has the focus. A slider takes the keys that move it, and leaves the others. */
export function fieldTakes(event) {
  const field = event.target.closest("input, textarea, select");
  if (!field) return false;
  return field.type !== "range" || (SLIDES.includes(event.key) && !event.shiftKey);
}

/** Whether a held key says something once more that is meant once: all but the keys that move. */
export const isHeld = (event) =>
  event.repeat && (event.key.length === 1 ? !REPEAT.includes(event.key) : ["Enter", "Backspace"].includes(event.key));

/** Whether a key presses the button that has the focus; held, it presses it once. */
export function presses(event) {
  if (!["Enter", " "].includes(event.key) || !event.target.closest("button, summary, a")) return false;
  if (isHeld(event)) event.preventDefault();
  return true;
}

/** The act that a key stands for, as [name, value]; null for none. */
export function actOf(event) {
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "Backspace" || (command && key === "z" && !event.shiftKey)) return ["undo"];
  if (command || event.altKey) return null;
  if (/^[0-9]$/.test(key)) return ["digit", key];
  const name = { "?": "keys", "/": "other", i: "behind" }[key] ?? actions().find((one) => one.key === key)?.name;
  return name ? [name] : null;
}

/** Carry out what a key says about examples; true where it says something. */
export function actionKey(desk, event) {
  const found = actOf(event);
  if (found) desk.act(...found);
  return found !== null;
}
