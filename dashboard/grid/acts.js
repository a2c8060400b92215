// What a key or a button says about examples, and the events that come of it. Nothing here waits for the server.

import { showBehind } from "./behind.js";
import { choose, showKeys, write } from "./dialogs.js";
import { digitClass, plural, verdictOf } from "./words.js";

/** Carry out one act on a grid's targets: undo, the list of keys, or something said about examples. */
export function act(grid, name, value) {
  if (name === "keys") return showKeys(grid.layer, grid.hub.marks, grid.data.guidelines, grid.data.kind, grid.hub.readOnly);
  if (name === "behind") return showBehind(grid);
  if (grid.hub.readOnly) return grid.toolbar.tell(grid.hub.readOnly);
  if (name === "undo") return grid.hub.undo(grid);
  const entries = grid.targets();
  if (!entries.length) return grid.toolbar.tell("No example is in focus.");
  const seconds = entries.length === 1 ? Math.round((Date.now() - grid.since) / 10) / 100 : null;
  const opened = grid.viewer.isOpen;
  const map = opened ? grid.viewer.map : Boolean(grid.stage?.map);
  const shown = new Map(entries.map(({ cell }) => [cell.id, grid.onScreen(cell.id)]));
  const facts = ({ id }) => ({ seconds, opened, map, on_screen: shown.get(id) });
  return then(eventsFor(grid, entries, name, value, facts), (events) => {
    if (events?.length) grid.hub.record(events, grid);
  });
}

/** Go on at once where nothing has to be waited for: the next key may come within this very task. */
const then = (value, next) => (value instanceof Promise ? value.then(next) : next(value));

/** The events of one act on some entries {cell, panel, place}; null where nothing is to be said, which is told.
 *  `facts(cell)`: how it was looked at: seconds, opened, map, on_screen. */
export function eventsFor(grid, entries, name, value, facts) {
  const cells = entries.map((entry) => entry.cell);
  const saying = SAYINGS[name] ?? ((...told) => judge(verdictOf(name), ...told));
  return then(saying(grid, cells, value), (said) => {
    if (!said) return null;
    const made = ({ cell, panel, place }) => eventOf(grid, { cell, panel, place }, said(cell), facts(cell));
    const events = entries.map(made).filter(Boolean);
    if (!events.length) grid.toolbar.tell(said.refusal ?? "Nothing to decide here.");
    return events;
  });
}

const decide = (verdict, more = {}) => ({ action: "decide", verdict, ...more });

/** Another label; choosing the given one confirms it. */
const relabel = (cell, label, verdict = "other") =>
  label === cell.label ? decide("given") : decide(verdict, { new_label: label });

/** Nothing is said of any cell, and why. */
const refused = (refusal) => refusing(refusal, () => null);

/** What is said of each cell; where nothing can be said of any, `refusal` tells why. */
const refusing = (refusal, said) => Object.assign((cell) => said(cell) || null, { refusal });

const subject = (cells) => (cells.length === 1 ? cells[0].id : plural(cells.length, "example"));

/** What stands on top of a list of classes: suggestion, prediction and label of a single example. */
const likely = ([cell, ...more]) =>
  more.length ? [] : [cell.suggestion, cell.prediction, cell.label].filter(Boolean);

const isFlagged = (grid, cell) => grid.board.shown(cell.id).flag;

/** What a verdict's key says of each cell, after the labels that it takes were chosen. */
function judge({ name, true: names, takes }, grid, cells) {
  if (takes) return chosen(name, takes, grid, cells);
  if (names !== "label") return () => decide(name);
  return refusing("There is no label to confirm here.", (cell) => cell.label !== null && decide(name));
}

async function chosen(name, takes, grid, cells) {
  const many = takes === "labels";
  const asked = { title: many ? "All labels that fit" : "The right label", subject: subject(cells), names: grid.labels };
  const found = await choose(grid.layer, { ...asked, first: likely(cells), many });
  if (many) return found?.length ? () => decide(name, { labels: found }) : null;
  return found === null ? null : (cell) => relabel(cell, found, name);
}

/** By act that is no verdict's: (grid, cells, value) → a function from a cell to what is said about it, or null for nothing. */
const SAYINGS = {
  suggested: () =>
    refusing("There is no suggestion here.", (cell) => cell.suggestion && relabel(cell, cell.suggestion)),
  digit(grid, _cells, value) {
    const label = digitClass(grid.labels, value);
    return refusing(`No class has the key ${value}.`, (cell) => label && relabel(cell, label));
  },
  flag(grid, cells) {
    const raise = cells.some((cell) => !isFlagged(grid, cell));
    return (cell) => (isFlagged(grid, cell) === raise ? null : { action: raise ? "flag" : "unflag" });
  },
  /** An issue keeps the verdict, so the verdict has to be known: a page that has just opened may not have read it yet. */
  async issue(grid, cells) {
    if (!(await grid.board.knows(cells.map(({ id }) => id))))
      return refused("What was decided before cannot be read, and an issue would replace it. Try again.");
    const chosen = cells.length === 1 ? (grid.board.shown(cells[0].id).decision?.issues ?? []) : [];
    const asked = { title: "Issues", subject: subject(cells), names: grid.data.issues, chosen };
    const issues = await choose(grid.layer, { ...asked, many: true, none: chosen.length > 0 });
    return issues === null ? null : () => ({ action: "decide", issues });
  },
  async note(grid, cells) {
    const note = await write(grid.layer, { title: "Note", subject: subject(cells) });
    return note === null ? null : () => ({ action: "comment", note });
  },
};

/** The event for one cell: what was said, and what was on screen when it was. */
function eventOf(grid, { cell, panel, place }, said, { seconds, ...looked }) {
  if (!said) return null;
  const own = grid.board.shown(cell.id);
  if (said.action === "decide") said = whole(said, own.decision);
  if (said.action === "decide" && said.verdict === null && !said.issues.length) return null;
  const evidence = {
    run: grid.data.run,
    page: location.pathname + location.search,
    panel: grid.data.panels[panel]?.title ?? null,
    place: place + 1,
    prediction: cell.prediction ?? null,
    score: cell.score ?? null,
    suggestion: cell.suggestion ?? null,
    suggestion_source: cell.suggestion_source ?? null,
    ...looked,
    ...cell.evidence,
  };
  const before = { decision: own.decision, flag: own.flag, notes: own.notes };
  const about = { example_id: cell.id, fingerprint: cell.fingerprint ?? null, label: cell.label ?? null };
  return { ...about, ...said, evidence, seconds, before };
}

/** A decision replaces the earlier one as a whole: a verdict keeps the issues, an issue keeps the verdict. */
function whole(said, earlier) {
  const { verdict = null, new_label = null, labels = [], issues = [] } = earlier ?? {};
  if (said.issues) return { verdict, new_label, labels, ...said };
  return { new_label: null, labels: [], issues, ...said };
}
