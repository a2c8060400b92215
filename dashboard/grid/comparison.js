// Another example beside a session's picture: a neighbour, a typical or gold example, an opponent.

/** @import { Cell } from "./types.js" */
/** @import { Session } from "./session.js" */

/** Puts an example beside the picture; the same once more takes it away. @param {Session} session @param {Cell} cell */
export function compare({ viewport, sidePanel }, cell) {
  const isSame = viewport.second?.cell?.id === cell.id;
  const found = sidePanel.examples.find(([one]) => one.id === cell.id);
  viewport.beside(isSame ? null : cell, found?.[1] ?? `label: ${cell.label ?? "none"}`);
}

/**
 * Puts the next of the examples beside the picture.
 * @param {Session} session
 * @param {1 | -1} by
 * @param {"gold" | null} [kind] only such examples
 */
export function compareNext({ viewport, sidePanel, toolbar }, by, kind = null) {
  const all = sidePanel.examples.filter(([, caption]) => !kind || caption.startsWith(kind));
  const at = all.findIndex(([one]) => one.id === viewport.second?.cell?.id);
  const next = all[at < 0 ? 0 : (at + by + all.length) % all.length];
  if (next) viewport.beside(...next);
  else toolbar.showMessage(kind ? "No gold example is known here." : "Nothing to compare with yet.");
}

/** Puts an example beside the picture, or takes away the one that is there. @param {Session} session */
export function toggleCompare(session) {
  if (session.viewport.second) session.viewport.beside(null);
  else compareNext(session, 1);
}
