// What a key or a button does to examples, and the events that come of it. Nothing here waits for the server.

/** @import { Cell, Change, Decision, Host, RecordedEvent, Target, Verdict, Viewing } from "./types.js" */
import { choose, showKeys, write } from "./dialogs.js";
import { isThere } from "./dom.js";
import { plural } from "./format.js";
import { showInfluentialExamples } from "./influential_examples.js";
import { digitClass } from "./keys.js";
import { verdictOf } from "./verdicts.js";

/** What an action changes about a cell; null for nothing. @typedef {(cell: Cell) => Change | null} Changes */
/**
 * The same with the message where nothing changes about any cell.
 * @typedef {Changes & {refusal?: string}} ChangesOrRefusal
 */
/** @typedef {ChangesOrRefusal | null} Outcome null: the dialog was closed */

/**
 * Carries out one action on a host's targets: undo, the list of keys, or a change of examples.
 * @param {Host} host
 * @param {string} name
 * @param {string} [value]
 * @returns {unknown}
 */
export function act(host, name, value) {
  const { hub, toolbar } = host;
  if (name === "keys") return showKeys(host.layer, hub.marks, host.data.guidelines, host.data.kind, hub.readOnly);
  if (name === "influence") return showInfluentialExamples(host);
  if (hub.readOnly) return toolbar.showMessage(hub.readOnly);
  if (name === "undo") return hub.undo(host);
  const targets = host.targets();
  if (!targets.length) return toolbar.showMessage("No example is in focus.");
  const seconds = targets.length === 1 ? Math.round((Date.now() - host.since) / 10) / 100 : null;
  const opened = host.exampleDialog.isOpen;
  const map = opened ? host.exampleDialog.map : Boolean(host.viewport?.map);
  const seen = (/** @type {string} */ id) => Math.max(host.onScreen(id), host.exampleDialog.onScreen(id));
  const shown = new Map(targets.map(({ cell }) => [cell.id, seen(cell.id)]));
  const viewing = (/** @type {Cell} */ { id }) => ({ seconds, opened, map, on_screen: shown.get(id) ?? 0 });
  return then(eventsFor(host, targets, name, value, viewing), (events) => {
    if (events?.length) hub.record(events, host);
  });
}

/**
 * The next step, at once where nothing has to be waited for: the next key may come within this very task.
 * @template T, U
 * @param {T | Promise<T>} value
 * @param {(value: T) => U} next
 * @returns {U | Promise<U>}
 */
const then = (value, next) => (value instanceof Promise ? value.then(next) : next(value));

/**
 * The events of one action on some targets; null, with a message, where there is nothing to record.
 * @param {Host} host
 * @param {Target[]} targets
 * @param {string} name
 * @param {string | undefined} value
 * @param {(cell: Cell) => Viewing} viewing how each was looked at
 * @returns {RecordedEvent[] | null | Promise<RecordedEvent[] | null>}
 */
export function eventsFor(host, targets, name, value, viewing) {
  const cells = targets.map((target) => target.cell);
  return then(changesOf(host, cells, name, value), (changes) => {
    if (!changes) return null;
    const events = targets.map((target) => eventOf(host, target, changes(target.cell), viewing(target.cell)));
    const made = events.filter((event) => event !== null);
    if (!made.length) host.toolbar.showMessage(changes.refusal ?? "Nothing to decide here.");
    return made;
  });
}

/** @type {(verdict: string, more?: Partial<Change>) => Change} */
const decide = (verdict, more = {}) => ({ action: "decide", verdict, ...more });

/**
 * Another label; choosing the given one confirms it.
 * @type {(cell: Cell, label: string, verdict?: string) => Change}
 */
const relabel = (cell, label, verdict = "other") =>
  label === cell.label ? decide("given") : decide(verdict, { new_label: label });

/**
 * Changes with the message for cells that all stay as they are.
 * @type {(refusal: string, changes: Changes) => ChangesOrRefusal}
 */
const orRefuse = (refusal, changes) => Object.assign((/** @type {Cell} */ cell) => changes(cell), { refusal });

/** @param {Cell[]} cells */
const subject = (cells) => (cells.length === 1 && cells[0] ? cells[0].id : plural(cells.length, "example"));

/**
 * The classes on top of a list: suggestion, prediction and label of a single example.
 * @type {(cells: Cell[]) => string[]}
 */
const likely = ([cell, ...more]) =>
  cell && !more.length ? [cell.suggestion, cell.prediction, cell.label].filter(isThere) : [];

/** @type {(host: Host, cell: Cell) => boolean} */
const isFlagged = (host, cell) => host.decisions.shown(cell.id).flag;

/**
 * What an action changes about some cells.
 * @param {Host} host
 * @param {Cell[]} cells
 * @param {string} name
 * @param {string | undefined} value
 * @returns {Outcome | Promise<Outcome>}
 */
function changesOf(host, cells, name, value) {
  if (name === "suggested") {
    return orRefuse("There is no suggestion here.", (cell) =>
      cell.suggestion ? relabel(cell, cell.suggestion) : null,
    );
  }
  if (name === "digit") return classByDigit(host, value ?? "");
  if (name === "flag") return flags(host, cells);
  if (name === "issue") return issues(host, cells);
  if (name === "note") return note(host, cells);
  const verdict = verdictOf(name);
  if (!verdict) throw new Error(`there is no action ${name}`);
  return verdictChanges(verdict, host, cells);
}

/**
 * A verdict's change of each cell, after the labels that it takes were chosen.
 * @type {(verdict: Verdict, host: Host, cells: Cell[]) => Outcome | Promise<Outcome>}
 */
function verdictChanges(verdict, host, cells) {
  const { name, true: names, takes } = verdict;
  if (takes === "labels") return severalLabels(name, host, cells);
  if (takes) return otherLabel(name, host, cells);
  if (names !== "label") return () => decide(name);
  return orRefuse("There is no label to confirm here.", (cell) => (cell.label === null ? null : decide(name)));
}

/** @type {(verdict: string, host: Host, cells: Cell[]) => Promise<Outcome>} */
async function severalLabels(verdict, host, cells) {
  const options = { title: "All labels that fit", subject: subject(cells), names: host.labels, first: likely(cells) };
  const labels = await choose(host.layer, { ...options, many: true });
  return labels?.length ? () => decide(verdict, { labels }) : null;
}

/** @type {(verdict: string, host: Host, cells: Cell[]) => Promise<Outcome>} */
async function otherLabel(verdict, host, cells) {
  const options = { title: "The right label", subject: subject(cells), names: host.labels, first: likely(cells) };
  const label = (await choose(host.layer, options))?.[0];
  return label === undefined ? null : (cell) => relabel(cell, label, verdict);
}

/** @type {(host: Host, digit: string) => Outcome} */
function classByDigit(host, digit) {
  const label = digitClass(host.labels, digit);
  return orRefuse(`No class has the key ${digit}.`, (cell) => (label ? relabel(cell, label) : null));
}

/** @type {(host: Host, cells: Cell[]) => Outcome} */
function flags(host, cells) {
  const raise = cells.some((cell) => !isFlagged(host, cell));
  return (cell) => (isFlagged(host, cell) === raise ? null : { action: raise ? "flag" : "unflag" });
}

/**
 * An issue keeps the verdict, so the verdict has to be known: a page that has just opened may not have read it yet.
 * @type {(host: Host, cells: Cell[]) => Promise<Outcome>}
 */
async function issues(host, cells) {
  const ids = cells.map(({ id }) => id);
  if (!(await host.decisions.knows(ids)))
    return orRefuse("Earlier decisions cannot be read, and an issue would replace them. Try again.", () => null);
  const chosen = ids.length === 1 ? (host.decisions.shown(ids[0] ?? "").decision?.issues ?? []) : [];
  const options = { title: "Issues", subject: subject(cells), names: host.data.issues, chosen };
  const found = await choose(host.layer, { ...options, many: true, none: chosen.length > 0 });
  return found === null ? null : () => ({ action: "decide", issues: found });
}

/** @type {(host: Host, cells: Cell[]) => Promise<Outcome>} */
async function note(host, cells) {
  const text = await write(host.layer, { title: "Note", subject: subject(cells) });
  return text === null ? null : () => ({ action: "comment", note: text });
}

/**
 * The event for one cell: the change, and what was on screen when it was made; null for nothing.
 * @param {Host} host
 * @param {Target} target
 * @param {Change | null} change
 * @param {Viewing} viewing
 * @returns {RecordedEvent | null}
 */
function eventOf(host, { cell, panel, place }, change, { seconds, ...looked }) {
  if (!change) return null;
  const own = host.decisions.shown(cell.id);
  const full = change.action === "decide" ? whole(change, own.decision) : change;
  if (full.action === "decide" && full.verdict === null && !full.issues?.length) return null;
  const evidence = {
    run: host.data.run,
    page: location.pathname + location.search,
    panel: (panel === null ? null : host.data.panels[panel]?.title) ?? null,
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
  return { ...about, ...full, evidence, seconds, before };
}

/**
 * A decision replaces the earlier one as a whole: a verdict keeps the issues, an issue keeps the verdict.
 * @type {(change: Change, earlier: Decision | null) => Change}
 */
function whole(change, earlier) {
  const { verdict = null, new_label = null, labels = [], issues: kept = [] } = earlier ?? {};
  if (change.issues) return { verdict, new_label, labels, ...change };
  return { new_label: null, labels: [], issues: kept, ...change };
}
