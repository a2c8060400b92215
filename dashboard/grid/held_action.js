// The action of a key that came before anything of its example was on screen. A verdict counts only for what can be
// seen, so the first such action waits for the picture, and further ones are dropped: they were meant for nothing seen.

/** @import { Session } from "./session.js" */

const AT_ONCE = ["undo", "keys"]; // these are about no picture

export class HeldAction {
  /** @param {Session} session */
  constructor(session) {
    this.session = session;
    /** @type {{name: string, value: string | undefined} | null} */
    this.action = null;
  }

  /** What is not on screen yet; null where keys may act. */
  get missing() {
    const { session } = this;
    if (session.exampleDialog.isOpen) return session.exampleDialog.viewport.isVisible ? null : "The picture";
    if (session.isBringingBack) return "The undone example";
    return session.here && !session.viewport.isVisible ? "The picture" : null;
  }

  /** Takes an action that cannot act yet; false where it can. @param {string} name @param {string} [value] */
  takes(name, value) {
    const what = AT_ONCE.includes(name) ? null : this.missing;
    if (!what) return false;
    const { toolbar } = this.session;
    if (this.action) toolbar.showMessage(`${what} is not on screen yet; only the first key waits for it.`);
    else toolbar.showMessage(`${what} is not on screen yet; your key acts as soon as it is.`);
    this.action ??= { name, value };
    return true;
  }

  /** Carries out the action, once the example is on screen. */
  release() {
    if (!this.action || this.missing) return;
    const { name, value } = this.action;
    this.action = null;
    this.session.act(name, value);
  }

  /** Forgets the action: its reviewer went elsewhere. */
  drop() {
    this.action = null;
  }
}
