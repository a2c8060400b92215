// What is decided about the examples on screen: the log's truth, and over it what this page has not saved yet.

import { ask } from "./dom.js";

const EVERY = 1000;
const HIDDEN = 15000;
const SLOWEST = 5000;
const PATIENCE = 8000;

const EMPTY = Object.freeze({ decisions: [], flags: [], notes: 0 });

export class Board {
  /** `reviewer`: whose decisions are "mine"; `queue`: what is not saved yet; `changed(ids)` after news. */
  constructor({ reviewer, queue, changed = () => {} }) {
    Object.assign(this, { reviewer, queue, changed });
    this.states = new Map();
    this.told = new Map(); // id → the log's position of which its state tells: replies overtake each other
    this.watched = new Set();
    this.position = null;
    this.failures = 0;
    document.addEventListener("visibilitychange", () => this.poll());
    this.poll();
  }

  /** Show these examples from now on: read what the log says about those not known yet. */
  async watch(ids) {
    const fresh = ids.filter((id) => !this.watched.has(id));
    this.watched = new Set(ids);
    for (const id of this.states.keys()) if (!this.watched.has(id)) this.forget(id);
    if (!fresh.length) return true;
    try {
      const answer = await ask("/hardlook/decisions", JSON.stringify({ ids: fresh }));
      this.position ??= answer.position; // an older position only reads some news twice
      this.merge(answer);
      return true;
    } catch {
      this.stale = true; // asked again with the next poll
      return false;
    }
  }

  /** Take in what the log says; only of what is on screen, and nothing older than what is known. */
  merge({ examples, position }) {
    const isNew = (id) => this.watched.has(id) && position >= (this.told.get(id) ?? position);
    const ids = Object.keys(examples).filter(isNew);
    for (const id of ids) {
      this.states.set(id, examples[id]);
      this.told.set(id, position);
    }
    if (ids.length) this.changed(ids);
  }

  /** Whether it is known what the log says about these examples, as far as they are on screen; waits for it a while. */
  async knows(ids) {
    const open = () => ids.filter((id) => this.watched.has(id) && !this.states.has(id)).length;
    for (const until = Date.now() + PATIENCE; open() && Date.now() < until; )
      await new Promise((done) => setTimeout(done, 30));
    return !open();
  }

  forget(id) {
    this.states.delete(id);
    this.told.delete(id);
  }

  stop() {
    this.watched.clear();
    this.stopped = true;
    clearTimeout(this.timer);
  }

  async poll() {
    if (this.stopped) return;
    clearTimeout(this.timer);
    const token = (this.turn = (this.turn ?? 0) + 1);
    try {
      if (this.stale) await this.reread();
      else if (this.position !== null && this.watched.size) await this.news();
      this.failures = 0;
    } catch {
      this.failures += 1; // the queue's status tells of an unreachable server
    }
    if (token !== this.turn || this.stopped) return; // another poll has started meanwhile and carries on
    const wait =
      document.visibilityState === "hidden" ? HIDDEN : Math.min(SLOWEST, EVERY * (1 + this.failures));
    this.timer = setTimeout(() => this.poll(), wait);
  }

  async news() {
    const after = this.position;
    const answer = await ask(`/hardlook/decisions?after=${after}`);
    if (answer.again && answer.position < after) this.told.clear(); // another log is here now, or an older copy of it
    if (answer.again) return this.reread();
    this.take(answer);
    return undefined;
  }

  /** Ask for everything on screen: after a failure, an undo, a long absence or a change of the log. */
  async reread() {
    this.stale = false;
    try {
      this.take(await ask("/hardlook/decisions", JSON.stringify({ ids: [...this.watched] })));
    } catch (error) {
      this.stale = true;
      throw error;
    }
  }

  take(answer) {
    this.position = answer.position;
    const before = this.queue.landing.length;
    this.queue.landed(answer.position);
    this.merge(answer);
    if (before !== this.queue.landing.length) this.changed(null);
  }

  /** What to draw for one example: own decision, flag and notes with what is unsaved applied, others' decisions. */
  shown(id) {
    const state = this.states.get(id) ?? EMPTY;
    const own = state.decisions.find((decision) => decision.reviewer === this.reviewer) ?? null;
    const start = { decision: own, flag: state.flags.length > 0, notes: state.notes };
    const mine = this.queue.of(id).reduce((said, event) => apply(said, event, id), start);
    return {
      ...mine,
      saving: this.queue.isSaving(id),
      others: state.decisions.filter((decision) => decision.reviewer !== this.reviewer),
      flaggedBy: state.flags,
    };
  }
}

/** One unsaved event applied to what the reviewer said before it. */
function apply(mine, event, id) {
  if (event.action === "flag") return { ...mine, flag: true };
  if (event.action === "unflag") return { ...mine, flag: false };
  if (event.action === "comment") return { ...mine, notes: mine.notes + 1 };
  if (event.action === "undo") return { ...mine, ...event.before?.[id] };
  const { verdict, new_label, labels, issues } = event;
  return { ...mine, decision: { verdict, new_label, labels, issues } };
}
