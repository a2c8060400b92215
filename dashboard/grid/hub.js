// What all grids of a page share: one queue of events, one store of decisions, one undo history. It outlives page
// changes within the app.

/**
 * @import { Act, Cell, EventsAnswer, Glyphs, GridData, Host, KeptEvent, Marks, Memory, RecordedEvent, SessionData }
 * from "./types.js"
 */
import { DecisionStore } from "./decision_store.js";
import { closest, takesTyping } from "./dom.js";
import { EventQueue } from "./event_queue.js";
import { plural } from "./format.js";
import { address, reason, request } from "./http.js";
import { actionOf } from "./keys.js";
import { safeStorage } from "./storage.js";
import { ThumbnailCache } from "./thumbnail_cache.js";
import { decisionText } from "./verdicts.js";

const NOTIFY_AFTER = 1500;
const SAVED_WITHIN = 8000;
const DIALOGS = "dialog[open], [role='dialog']";

export class Hub {
  /** @param {GridData | SessionData} data */
  constructor(data) {
    this.audit = data.audit;
    this.reviewer = data.reviewer;
    /** Why the visitor may only look. @type {string | null} */
    this.readOnly = null;
    /** @type {Marks} */
    this.marks = data.marks;
    /** @type {Glyphs} */
    this.glyphs = {};
    this.update(data);
    /** @type {Set<Host>} */
    this.grids = new Set();
    /** By grid key, focus and selection. @type {Map<string, Memory>} */
    this.memories = new Map();
    /** By grid key, what reports the log's position to Streamlit. @type {Map<string, (position: number) => void>} */
    this.listeners = new Map();
    /** @type {Host | null} */
    this.active = null;
    /** What this page did, newest last; earlier acts are read from the log. @type {Act[]} */
    this.acts = [];
    /** @type {Promise<void>} */
    this.undoing = Promise.resolve();
    /** @type {number | undefined} */
    this.notice = undefined;
    this.queue = new EventQueue({
      audit: data.audit,
      reviewer: data.reviewer,
      storage: safeStorage(),
      changed: () => this.drawStatus(),
      answered: (answer, events) => this.answered(answer, events),
    });
    this.decisions = new DecisionStore({
      reviewer: data.reviewer,
      queue: this.queue,
      changed: (ids) => this.repaint(ids),
    });
    this.thumbnails = new ThumbnailCache();
    document.addEventListener("keydown", (event) => this.strayKey(event));
  }

  /** Takes what may change while audit and reviewer stay. @param {GridData | SessionData} data */
  update(data) {
    this.readOnly = data.read_only;
    this.marks = data.marks;
    this.glyphs = Object.fromEntries(Object.entries(data.marks).map(([role, { mark }]) => [role, mark]));
  }

  /**
   * A key pressed while nothing that takes typing has the focus goes to the grid that had it last.
   * @param {KeyboardEvent} event
   */
  strayKey(event) {
    const at = event.target;
    if (event.defaultPrevented || takesTyping(at)) return;
    const idle = at === document.body || at === document.documentElement;
    const grid = this.active;
    if (!grid?.root.isConnected) {
      if (idle) this.enter(event);
      return;
    }
    if ((at instanceof Node && grid.root.contains(at)) || !(idle || closest(event, "button, a"))) return;
    const dialogs = [...document.querySelectorAll(DIALOGS)];
    if (!dialogs.length) grid.key(event);
    // The focus of an opened example was on what is gone.
    else if (idle && dialogs.at(-1) === grid.exampleDialog.dialog) grid.exampleDialog.key(event);
  }

  /**
   * The first key on a page where no grid was in use yet shows where the focus is, and decides nothing unseen.
   * @param {KeyboardEvent} event
   */
  enter(event) {
    const arrow = event.key.startsWith("Arrow") && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    const action = actionOf(event)?.[0];
    if (event.altKey || document.querySelector(DIALOGS) || !(arrow || action)) return;
    const grid = [...this.grids].find((one) => one.inView?.());
    if (!grid) return;
    grid.focusCell?.();
    if (action === "keys") grid.act("keys");
    else if (!arrow) {
      grid.toolbar.showMessage(
        this.readOnly || "The focus is here now; the same key once more decides about this example.",
      );
    }
    event.preventDefault();
  }

  /**
   * Another audit or reviewer is here now: this hub reads no more. Events that it could not send stay in the browser.
   */
  end() {
    this.decisions.stop();
    this.queue.stop();
  }

  watch() {
    /** @type {Cell[]} */
    const cells = [...this.grids].flatMap((grid) => [...grid.cells.map((entry) => entry.cell), ...grid.guests]);
    this.decisions.watch([...new Set(cells.map(({ id }) => id))]);
  }

  /** @param {string[] | null} ids */
  repaint(ids) {
    for (const grid of this.grids) grid.repaint(ids);
  }

  drawStatus() {
    for (const grid of this.grids) grid.toolbar.drawStatus();
  }

  /** Keeps, sends and shows the events of one act. @param {RecordedEvent[]} events @param {Host} grid */
  record(events, grid) {
    const batch = events.length > 1 ? `${this.queue.client}:${this.queue.seq + 1}` : null;
    const before = Object.fromEntries(events.map((event) => [event.example_id, event.before]));
    const opens = events
      .filter((event) => event.verdict && !event.before.decision?.verdict)
      .map((one) => one.example_id);
    const kept = this.queue.add(events.map(({ before: _, ...event }) => ({ ...event, batch })));
    const first = kept[0];
    if (!first) return;
    const { client, seq, example_id, fingerprint, label } = first;
    this.acts.push({ client, seq, example_id, fingerprint, label, before, opens });
    this.repaint(kept.map((event) => event.example_id));
    const what = recorded(first);
    grid.toolbar.showMessage(kept.length > 1 ? `${what} · ${plural(kept.length, "example")}` : what);
    grid.recorded?.(events, opens);
  }

  /** Takes the last act back; several in a row one after the other, as far back as the log goes. @param {Host} grid */
  undo(grid) {
    const act = this.acts.pop(); // the last one when the key was pressed, whatever follows while the log is read
    this.undoing = this.undoing.then(() => this.undoOne(grid, act));
    return this.undoing;
  }

  /**
   * One event is enough: an undo of one member of a bulk act takes all of it back.
   * @param {Host} grid
   * @param {Act | undefined} known
   */
  async undoOne(grid, known) {
    const act = known ?? (await this.lastAct(grid));
    if (!act) return;
    const { client, seq, opens, ...event } = act;
    this.queue.add([{ ...event, action: "undo", undoes: [client, seq] }]);
    const ids = Object.keys(act.before);
    this.repaint(ids);
    grid.toolbar.showMessage(`undone · ${ids.length === 1 ? ids[0] : plural(ids.length, "example")}`);
    grid.undone?.(ids, opens);
  }

  /**
   * The last act of an earlier page or of another machine, as the log has it; null where there is none, with a message.
   * What this page has done since the key was pressed is not meant.
   * @param {Host} grid
   * @returns {Promise<Act | null>}
   */
  async lastAct(grid) {
    if (!(await this.queue.empty(SAVED_WITHIN))) {
      grid.toolbar.showMessage("Undo of earlier decisions needs everything saved first.");
      return null;
    }
    try {
      /** @type {{act: Act | null}} */
      const { act } = await request(address("last-act", { but: this.queue.client }));
      if (!act) grid.toolbar.showMessage("There is nothing to undo.");
      return act;
    } catch (error) {
      grid.toolbar.showMessage(`Undo needs the log: ${reason(error)}`);
      return null;
    }
  }

  /** @param {EventsAnswer} answer @param {KeptEvent[]} events */
  answered(answer, events) {
    this.repaint(events.map((event) => event.example_id));
    clearTimeout(this.notice);
    this.notice = setTimeout(() => {
      for (const report of this.listeners.values()) report(answer.position);
    }, NOTIFY_AFTER);
  }
}

/** What an event records, in a few words. @param {KeptEvent} event */
function recorded(event) {
  if (event.action === "decide")
    return decisionText({ verdict: null, new_label: null, labels: [], issues: [], ...event });
  return { comment: "note", flag: "⚑ flagged", unflag: "flag removed", undo: "undone" }[event.action];
}
