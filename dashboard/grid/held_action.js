// The action of a key that came before anything of its example was on screen. A verdict counts only for what can be
// seen, so the first such action waits for the picture, and further ones are dropped: they were meant for nothing seen.

/** @import { Host } from "./types.js" */

const AT_ONCE = ["undo", "keys"]; // these are about no picture

export class HeldAction {
  /** @param {Host} host knows what is missing on its screen */
  constructor(host) {
    this.host = host;
    /** @type {{name: string, value: string | undefined} | null} */
    this.action = null;
  }

  /** Takes an action that cannot act yet; false where it can. @param {string} name @param {string} [value] */
  takes(name, value) {
    const what = AT_ONCE.includes(name) ? null : this.host.missing;
    if (!what) return false;
    const { toolbar } = this.host;
    if (this.action) toolbar.showMessage(`${what} is not on screen yet; only the first key waits for it.`);
    else toolbar.showMessage(`${what} is not on screen yet; your key acts as soon as it is.`);
    this.action ??= { name, value };
    return true;
  }

  /** Carries out the action, once the example is on screen. */
  release() {
    if (!this.action || this.host.missing) return;
    const { name, value } = this.action;
    this.action = null;
    this.host.act(name, value);
  }

  /** The same after this task: whoever learns that a picture came is still drawing it. */
  releaseSoon() {
    if (this.action) setTimeout(() => this.release(), 0);
  }

  /** Forgets the action: its reviewer went elsewhere. */
  drop() {
    this.action = null;
  }
}
