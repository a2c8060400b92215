// The decisions about the examples on screen: the log's state, and over it the events that are not saved yet.

/** @import { EventQueue } from "./event_queue.js" */
/** @import { Decision, ExampleState, KeptEvent, OwnState, Shown, StatesAnswer } from "./types.js" */
import { request } from "./http.js";

const URL_OF_DECISIONS = "/hardlook/decisions";
const EVERY = 1000; // milliseconds between two polls
const HIDDEN = 15000; // the same in a hidden window
const SLOWEST = 5000;
const PATIENCE = 8000;

/** @type {ExampleState} */
const EMPTY = Object.freeze({ decisions: [], flags: [], notes: 0 });

export class DecisionStore {
  /**
   * @param {object} options
   * @param {string | null} options.reviewer whose decisions are the visitor's own
   * @param {EventQueue} options.queue the events that are not saved yet
   * @param {(ids: string[] | null) => void} options.changed called after news; null: any example may have changed
   */
  constructor({ reviewer, queue, changed }) {
    this.reviewer = reviewer;
    this.queue = queue;
    this.changed = changed;
    /** @type {Map<string, ExampleState>} */
    this.states = new Map();
    /** By id, the log's position of the state that is kept: replies overtake each other. @type {Map<string, number>} */
    this.positions = new Map();
    /** @type {Set<string>} */
    this.watched = new Set();
    /** @type {number | null} */
    this.position = null;
    this.failures = 0;
    this.polls = 0;
    this.stale = false;
    this.stopped = false;
    /** @type {number | undefined} */
    this.timer = undefined;
    document.addEventListener("visibilitychange", () => this.poll());
    this.poll();
  }

  /** Shows these examples from now on: reads the log's state of those not known yet. @param {string[]} ids */
  async watch(ids) {
    const fresh = ids.filter((id) => !this.watched.has(id));
    this.watched = new Set(ids);
    for (const id of this.states.keys()) if (!this.watched.has(id)) this.forget(id);
    if (!fresh.length) return true;
    try {
      /** @type {StatesAnswer} */
      const answer = await request(URL_OF_DECISIONS, { ids: fresh });
      this.position ??= answer.position; // an older position only reads some news twice
      this.merge(answer);
      return true;
    } catch {
      this.stale = true; // the next poll reads them again
      return false;
    }
  }

  /**
   * Takes in the log's states: only of what is on screen, and nothing older than what is known.
   * @param {StatesAnswer} answer
   */
  merge({ examples, position }) {
    const fresh = Object.entries(examples).filter(
      ([id]) => this.watched.has(id) && position >= (this.positions.get(id) ?? position),
    );
    for (const [id, state] of fresh) {
      this.states.set(id, state);
      this.positions.set(id, position);
    }
    if (fresh.length) this.changed(fresh.map(([id]) => id));
  }

  /**
   * Whether the log's states of these examples are known, as far as they are on screen; waits for them a while.
   * @param {string[]} ids
   */
  async knows(ids) {
    const isOpen = () => ids.some((id) => this.watched.has(id) && !this.states.has(id));
    for (const until = Date.now() + PATIENCE; isOpen() && Date.now() < until;)
      await new Promise((done) => setTimeout(done, 30));
    return !isOpen();
  }

  /** @param {string} id */
  forget(id) {
    this.states.delete(id);
    this.positions.delete(id);
  }

  stop() {
    this.watched.clear();
    this.stopped = true;
    clearTimeout(this.timer);
  }

  async poll() {
    if (this.stopped) return;
    clearTimeout(this.timer);
    const own = ++this.polls;
    try {
      if (this.stale) await this.reread();
      else if (this.position !== null && this.watched.size) await this.readNews(this.position);
      this.failures = 0;
    } catch {
      this.failures += 1; // the queue's status shows that the server cannot be reached
    }
    if (own !== this.polls || this.stopped) return; // another poll has started meanwhile and carries on
    const wait = document.visibilityState === "hidden" ? HIDDEN : Math.min(SLOWEST, EVERY * (1 + this.failures));
    this.timer = setTimeout(() => this.poll(), wait);
  }

  /** @param {number} after */
  async readNews(after) {
    /** @type {StatesAnswer} */
    const answer = await request(`${URL_OF_DECISIONS}?after=${after}`);
    const isOlder = answer.position < after; // another log is here now, or an older copy of it
    if (answer.again && isOlder) this.positions.clear();
    if (answer.again) await this.reread();
    else this.take(answer);
  }

  /** Reads everything on screen: after a failure, an undo, a long absence or a change of the log. */
  async reread() {
    this.stale = false;
    try {
      this.take(await request(URL_OF_DECISIONS, { ids: [...this.watched] }));
    } catch (error) {
      this.stale = true;
      throw error;
    }
  }

  /** @param {StatesAnswer} answer */
  take(answer) {
    this.position = answer.position;
    const before = this.queue.acknowledged.length;
    this.queue.readUpTo(answer.position);
    this.merge(answer);
    if (before !== this.queue.acknowledged.length) this.changed(null);
  }

  /**
   * What to draw for one example: own decision, flag and notes with the unsaved events applied, and others' decisions.
   * @param {string} id
   * @returns {Shown}
   */
  shown(id) {
    const state = this.states.get(id) ?? EMPTY;
    const own = state.decisions.find((decision) => decision.reviewer === this.reviewer) ?? null;
    /** @type {OwnState} */
    const start = { decision: own, flag: state.flags.length > 0, notes: state.notes };
    return {
      ...this.queue.of(id).reduce((mine, event) => apply(mine, event, id), start),
      saving: this.queue.isSaving(id),
      others: state.decisions.filter((decision) => decision.reviewer !== this.reviewer),
      flaggedBy: state.flags,
    };
  }
}

/** The reviewer's state after one unsaved event. @type {(mine: OwnState, event: KeptEvent, id: string) => OwnState} */
function apply(mine, event, id) {
  if (event.action === "flag") return { ...mine, flag: true };
  if (event.action === "unflag") return { ...mine, flag: false };
  if (event.action === "comment") return { ...mine, notes: mine.notes + 1 };
  if (event.action === "undo") return { ...mine, ...event.before?.[id] };
  const { verdict = null, new_label = null, labels = [], issues = [] } = event;
  /** @type {Decision} */
  const decision = { verdict, new_label, labels, issues };
  return { ...mine, decision };
}
