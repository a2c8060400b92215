// Which examples ahead are this reviewer's to decide: a session keeps others off its next ones, several at a time, and
// passes over what somebody else looks at or has decided.

/** @import { Cell } from "./types.js" */
/** @import { Session } from "./session.js" */
import { request } from "./http.js";

const LOCKED_AHEAD = 5; // fewer than these are kept, and more are taken
const LOCKED_FOR = 120000; // milliseconds until locks are read again
const UNSAVED = 16; // decided examples that are kept until the log has the decision

export class SessionLocks {
  /** @param {Session} session */
  constructor(session) {
    this.session = session;
    this.reviewer = session.hub.reviewer;
    /** By id, who looks at it; null for what is not to review any more. @type {Map<string, string | null>} */
    this.holders = new Map();
    this.isBusy = false;
    /** Whether the last question had no answer: nobody knows then what others do, and the work goes on without. */
    this.isCut = false;
  }

  /**
   * Asks for the current example and the next ones: what is kept already is looked at again, and where little is left,
   * more is kept. Each question is asked from where the session is by then.
   * @param {number} most how many are asked for at once
   */
  async hold(most) {
    if (this.isBusy || this.session.hub.readOnly) return;
    this.isBusy = true;
    try {
      let ids = this.next(most);
      if (!this.isFew(ids)) ids = ids.filter((id) => this.holders.has(id));
      do {
        await this.ask(ids);
        this.isCut = false;
        this.session.locksCame();
        ids = this.next(most);
      } while (this.isFew(ids));
    } catch {
      this.isCut = true; // without locks two people may decide the same example, which the log can bear
      this.session.locksCame();
    } finally {
      this.isBusy = false;
    }
  }

  /** @param {string[]} ids */
  isFew(ids) {
    return ids.slice(0, LOCKED_AHEAD).some((id) => !this.holders.has(id));
  }

  /** The current example, where it is not decided, and the next ones that are this reviewer's. @param {number} most */
  next(most) {
    const { cells, focus } = this.session;
    const ids = [];
    for (let place = focus; place < cells.length && ids.length < most; place += 1) {
      const cell = cells[place]?.cell;
      if (cell && (place === focus ? !this.session.decisions.shown(cell.id).decision : this.isFree(cell)))
        ids.push(cell.id);
    }
    return ids;
  }

  /** @param {string[]} ids */
  async ask(ids) {
    const unsaved = this.session.queue.waiting.map((event) => event.example_id);
    const kept = [...new Set(unsaved)].filter((id) => !ids.includes(id)).slice(-UNSAVED);
    /** @type {Record<string, string | null>} */
    const holders = await request("/hardlook/hold", { ids: [...ids, ...kept] });
    for (const id of ids) this.holders.set(id, Object.hasOwn(holders, id) ? (holders[id] ?? null) : this.reviewer);
    setTimeout(() => ids.forEach((id) => this.holders.delete(id)), LOCKED_FOR);
  }

  /** The other reviewer who looks at an example; null for nobody else. @param {string} id */
  otherHolder(id) {
    const holder = this.holders.get(id) ?? this.reviewer;
    return holder === this.reviewer ? null : holder;
  }

  /** Whether others have decided an example meanwhile, so that it needs no further reader. @param {Cell} cell */
  isClosed({ id, again }) {
    if (!this.session.data.skips || again) return false;
    return this.holders.get(id) === null || this.session.decisions.shown(id).others.length > 0;
  }

  /** Whether an example may be shown: in a team, where it is this reviewer's for certain. @param {Cell} cell */
  isSure({ id }) {
    return !this.session.data.waits || this.isCut || this.holders.get(id) === this.reviewer;
  }

  /** Whether an example is open, and this reviewer's. @param {Cell} cell */
  isFree(cell) {
    const isOwn = Boolean(this.session.decisions.shown(cell.id).decision);
    return !isOwn && !this.isClosed(cell) && !this.otherHolder(cell.id);
  }
}
