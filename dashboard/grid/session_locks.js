// Which examples of the queue somebody else looks at: a session keeps others off its next ones, several at a time.

/** @import { Cell } from "./types.js" */
import { request } from "./http.js";

const LOCKED_AHEAD = 3; // fewer than these are kept, and more are taken
const LOCKED_FOR = 120000; // milliseconds until locks are read again

export class SessionLocks {
  /** @param {string | null} reviewer */
  constructor(reviewer) {
    this.reviewer = reviewer;
    /** By id, who looks at it. @type {Map<string, string>} */
    this.holders = new Map();
    this.isBusy = false;
  }

  /**
   * Keeps others off some examples, the nearest first, where fewer than a few are kept; false where nothing was
   * requested.
   * @param {Cell[]} cells
   */
  async hold(cells) {
    if (this.isBusy || cells.slice(0, LOCKED_AHEAD).every(({ id }) => this.holders.has(id))) return false;
    this.isBusy = true;
    try {
      /** @type {Record<string, string>} */
      const holders = await request("/hardlook/hold", { ids: cells.map(({ id }) => id) });
      for (const [id, holder] of Object.entries(holders)) this.holders.set(id, holder);
      setTimeout(() => Object.keys(holders).forEach((id) => this.holders.delete(id)), LOCKED_FOR);
    } catch {
      // without locks two people may decide the same example, which the log can bear
    }
    this.isBusy = false;
    return true;
  }

  /** The other reviewer who looks at an example; null for nobody else. @param {string} id */
  otherHolder(id) {
    const holder = this.holders.get(id);
    return holder === undefined || holder === this.reviewer ? null : holder;
  }
}
