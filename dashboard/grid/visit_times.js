// How long each example of a session was large on screen.

export class VisitTimes {
  constructor() {
    /** The id on screen, and when it came there. @type {{id: string, start: number} | null} */
    this.current = null;
    /** By id, milliseconds on screen before this visit. @type {Map<string, number>} */
    this.before = new Map();
  }

  /** Another example is on screen now. @param {string} id */
  start(id) {
    if (this.current) this.before.set(this.current.id, this.milliseconds(this.current.id));
    this.current = { id, start: performance.now() };
  }

  /** @param {string} id */
  milliseconds(id) {
    const before = this.before.get(id) ?? 0;
    return id === this.current?.id ? before + performance.now() - this.current.start : before;
  }
}
