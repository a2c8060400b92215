// How long each example has really been on screen: at least half of it in view, in a visible window.

export class TimeOnScreen {
  /** @param {Element | null} [root] the element that scrolls, null for the window */
  constructor(root = null) {
    /** By id, milliseconds so far. @type {Map<string, number>} */
    this.total = new Map();
    /** By id, since when in view; null in a hidden window. @type {Map<string, number | null>} */
    this.since = new Map();
    /** @type {WeakMap<Element, string>} */
    this.names = new WeakMap();
    this.visible = document.visibilityState === "visible";
    this.observer = new IntersectionObserver((entries) => this.notice(entries), { root, threshold: 0.5 });
    this.visibilityChanged = () => this.setVisible(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", this.visibilityChanged);
  }

  /** @param {Element} node @param {string} id */
  watch(node, id) {
    this.names.set(node, id);
    this.observer.observe(node);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  notice(entries) {
    for (const { target, isIntersecting } of entries) {
      const id = this.names.get(target);
      if (id === undefined) continue;
      if (isIntersecting && target.isConnected) this.start(id);
      else this.stop(id);
    }
  }

  /** @param {string} id */
  start(id) {
    if (!this.since.has(id)) this.since.set(id, this.visible ? performance.now() : null);
  }

  /** @param {string} id */
  stop(id) {
    this.total.set(id, this.milliseconds(id));
    this.since.delete(id);
  }

  /** A hidden window shows nothing: the clocks stand still meanwhile. @param {boolean} visible */
  setVisible(visible) {
    for (const [id, since] of this.since) {
      if (since !== null) this.total.set(id, this.milliseconds(id));
      this.since.set(id, visible ? performance.now() : null);
    }
    this.visible = visible;
  }

  /** @param {string} id */
  milliseconds(id) {
    const since = this.since.get(id) ?? null;
    return (this.total.get(id) ?? 0) + (since === null ? 0 : performance.now() - since);
  }

  /** Seconds to hundredths. @param {string} id */
  seconds(id) {
    return Math.round(this.milliseconds(id) / 10) / 100;
  }

  /** Nothing is on screen any more. */
  clear() {
    this.observer.disconnect();
    for (const id of [...this.since.keys()]) this.stop(id);
  }

  end() {
    this.clear();
    document.removeEventListener("visibilitychange", this.visibilityChanged);
  }
}
