// How long each example has really been on screen: at least half of it in view, its picture drawn, in a visible window.

import { whenDrawn } from "./drawn.js";

export class TimeOnScreen {
  /** @param {Element | null} [root] the element that scrolls, null for the window */
  constructor(root = null) {
    /** By id, milliseconds so far. @type {Map<string, number>} */
    this.total = new Map();
    /** By id, since when in view; null in a hidden window. @type {Map<string, number | null>} */
    this.since = new Map();
    /** @type {WeakMap<Element, string>} */
    this.names = new WeakMap();
    /** Nodes that show their example. @type {WeakSet<Element>} */
    this.drawn = new WeakSet();
    /** By id, its nodes in view: an example may lie in several places. @type {Map<string, Set<Element>>} */
    this.inView = new Map();
    this.visible = document.visibilityState === "visible";
    this.observer = new IntersectionObserver((entries) => this.notice(entries), { root, threshold: 0.5 });
    this.visibilityChanged = () => this.setVisible(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", this.visibilityChanged);
  }

  /** @param {Element} node @param {string} id */
  watch(node, id) {
    this.names.set(node, id);
    this.observer.observe(node);
    whenDrawn(node, () => {
      this.drawn.add(node);
      this.count(id);
    });
  }

  /** @param {IntersectionObserverEntry[]} entries */
  notice(entries) {
    for (const { target, isIntersecting } of entries) {
      const id = this.names.get(target);
      if (id === undefined) continue;
      const nodes = this.inView.get(id) ?? new Set();
      if (isIntersecting && target.isConnected) nodes.add(target);
      else nodes.delete(target);
      if (nodes.size) this.inView.set(id, nodes);
      else this.inView.delete(id);
      this.count(id);
    }
  }

  /** Lets the clock of an example run while any of its nodes is in view and drawn. @param {string} id */
  count(id) {
    const isSeen = [...(this.inView.get(id) ?? [])].some((node) => this.drawn.has(node));
    if (isSeen) this.start(id);
    else this.stop(id);
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
    this.inView.clear();
    for (const id of [...this.since.keys()]) this.stop(id);
  }

  end() {
    this.clear();
    document.removeEventListener("visibilitychange", this.visibilityChanged);
  }
}
