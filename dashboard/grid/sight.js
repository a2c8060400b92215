// How long each example has really been on screen: at least half of it in view, in a visible window.

export class Sight {
  /** `root`: the element that scrolls, null for the window. */
  constructor(root = null) {
    this.total = new Map(); // id → milliseconds so far
    this.since = new Map(); // id → since when in view
    this.names = new WeakMap();
    this.visible = document.visibilityState === "visible";
    this.observer = new IntersectionObserver((entries) => this.saw(entries), { root, threshold: 0.5 });
    this.turned = () => this.turn(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", this.turned);
  }

  watch(node, id) {
    this.names.set(node, id);
    this.observer.observe(node);
  }

  saw(entries) {
    for (const { target, isIntersecting } of entries) {
      const id = this.names.get(target);
      if (isIntersecting && target.isConnected) this.start(id);
      else this.stop(id);
    }
  }

  start(id) {
    if (!this.since.has(id)) this.since.set(id, this.visible ? performance.now() : null);
  }

  stop(id) {
    this.total.set(id, this.milliseconds(id));
    this.since.delete(id);
  }

  /** A hidden window shows nothing: the clocks stand still meanwhile. */
  turn(visible) {
    for (const [id, since] of this.since) {
      if (since !== null) this.total.set(id, this.milliseconds(id));
      this.since.set(id, visible ? performance.now() : null);
    }
    this.visible = visible;
  }

  milliseconds(id) {
    const since = this.since.get(id) ?? null;
    return (this.total.get(id) ?? 0) + (since === null ? 0 : performance.now() - since);
  }

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
    document.removeEventListener("visibilitychange", this.turned);
  }
}
