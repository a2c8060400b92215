// What the keys of a session do beyond deciding: they move through the queue and change what the picture shows.

/** @import { Session } from "./session.js" */
import { compareNext, toggleCompare } from "./comparison.js";

const STEPS = new Map([
  ["ArrowRight", 1],
  ["ArrowLeft", -1],
  ["PageDown", 10],
  ["PageUp", -10],
]);

/** Carries out a key that moves; false where it is none. @param {Session} session @param {KeyboardEvent} event */
export function moveKey(session, event) {
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key.toLowerCase() === "a") {
    session.toolbar.showMessage("One at a time here; the sheet selects many.");
    return true;
  }
  if (command || event.shiftKey) return false;
  const step = STEPS.get(event.key);
  if (step) session.step(step);
  else if (event.key === "Home") session.home();
  else if (event.key === "End") session.goTo(session.cells.length - 1);
  else if (event.key === " ") session.advance();
  else if (event.key === "Enter") session.open();
  else if (event.key === "Escape") escape(session);
  else return false;
  return true;
}

/** Takes away what is beside the picture; where nothing is, zoom, map and window. @param {Session} session */
function escape({ viewport, here }) {
  if (viewport.second) viewport.beside(null);
  else if (here) viewport.show(here);
}

/**
 * Carries out a key that changes what the picture shows; false where it is none.
 * @param {Session} session
 * @param {KeyboardEvent} event
 */
export function pictureKey(session, event) {
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) return false;
  if (key === "t" && event.shiftKey) compareNext(session, 1);
  else if (key === "t") toggleCompare(session);
  else if (key === "]" || key === "[") compareNext(session, key === "]" ? 1 : -1);
  else if (key === "g") compareNext(session, 1, "gold");
  else if (key === "a") session.act("lookalikes");
  else return session.viewport.key(event);
  return true;
}
