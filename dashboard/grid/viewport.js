// The large picture: wheel zoom, pan, 1:1, window and level, the VoG map on a key, and a second picture beside it.
//
// Zoom and place are shared by both pictures, as shares of the frame, so that the same part of two examples is
// compared.

/** @import { Cell, Content } from "./types.js" */
/** @import { PlaneMemory } from "./decision_plane.js" */
/** @import { ThumbnailCache } from "./thumbnail_cache.js" */
/** @import { Range, Values } from "./window_level.js" */
import { closest, el } from "./dom.js";
import { DecodedPictures, Frame } from "./frame.js";

const MOST = 64; // times the fitted size
const STEP = 1.25;
const PAN = 60; // pixels per arrow key
const OWN = ".hl-range, .hl-text, .hl-rows, .hl-whole"; // what scrolls and is selected as text is

/** @typedef {{scale: number, x: number, y: number}} View */
/**
 * What a viewport needs of the grid or session around it.
 * @typedef {{data: {run: string | null}, hub: {thumbnails: ThumbnailCache}, isDeep?: (cell: Cell) => boolean}} ViewportHost
 */

export class Viewport {
  /**
   * @param {ViewportHost} host
   * @param {() => void} changed called when zoom, map, window or the second picture changed
   * @param {(cell: Cell) => void} [visible] called once something of the example can be seen
   */
  constructor(host, changed, visible = () => {}) {
    this.host = host;
    this.changed = changed;
    this.visible = visible;
    this.decoded = new DecodedPictures();
    /** @type {Cell | null} */
    this.cell = null;
    /** @type {View} */
    this.view = { scale: 1, x: 0, y: 0 };
    this.map = false;
    /** What was chosen for an example that is no picture. @type {PlaneMemory} */
    this.memory = {};
    /** The range in use; true until the values are known. @type {Range | true | null} */
    this.window = null;
    /** By pointer, its last event. @type {Map<number, PointerEvent>} */
    this.pointers = new Map();
    this.main = new Frame(this);
    /** @type {Frame | null} */
    this.second = null;
    this.frames = el("div", { class: "hl-frames" }, this.main.node);
    this.range = el("div", { class: "hl-range", hidden: true });
    this.node = el(
      "div",
      {
        class: "hl-stage",
        tabindex: "0",
        role: "group",
        "aria-label": "Picture. Plus and minus zoom, Shift with arrows moves, Z shows it 1 to 1.",
        on: {
          pointerdown: (event) => this.pressed(event),
          pointermove: (event) => this.moved(event),
          pointerup: (event) => this.released(event),
          pointercancel: (event) => this.released(event),
          dblclick: () => this.toggleSize(),
        },
      },
      this.frames,
      this.range,
    );
    this.node.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => this.placed()).observe(this.node);
  }

  /** Shows an example; zoom, map and window of the one before say nothing about this one. @param {Cell} cell */
  show(cell) {
    this.cell = cell;
    this.view = { scale: 1, x: 0, y: 0 };
    this.map = false;
    if (this.second) this.beside(null);
    if (this.window) this.setWindow(null);
    this.main.show(cell);
  }

  /** Whether something of the example can be seen. */
  get isVisible() {
    return this.main.isVisible;
  }

  /** Called by a frame that has something to see. @param {Frame} frame */
  appeared(frame) {
    if (frame === this.main && frame.cell) this.visible(frame.cell);
  }

  /** Shows the whole of an example that is no picture, once it is known. @param {Content} content */
  setContent(content) {
    this.main.content = content;
    this.main.drawMap(this.host.data.run);
  }

  /** @param {Cell} cell */
  isDeep(cell) {
    return this.host.isDeep?.(cell) ?? true;
  }

  // -- a second picture ---------------------------------------------------------------------------------------------

  /** Puts another example beside this one, or takes it away. @param {Cell | null} cell */
  beside(cell, caption = "") {
    this.second?.node.remove();
    this.second = null;
    if (cell) {
      this.second = new Frame(this, caption);
      this.frames.append(this.second.node);
      this.second.show(cell);
      if (this.window) this.second.drawWindow(this.window);
    }
    this.frames.classList.toggle("hl-two", this.second !== null);
    this.placed();
    this.changed();
  }

  // -- zoom and place -----------------------------------------------------------------------------------------------

  get both() {
    return this.second ? [this.main, this.second] : [this.main];
  }

  placed() {
    for (const frame of this.both) frame.place();
  }

  /** Zooms by a factor, keeping the point at (x, y), shares of the frame, where it is. @param {number} by */
  zoom(by, x = 0.5, y = 0.5) {
    this.look(zoomed(this.view, by, x, y));
  }

  /** Takes a view; the picture never leaves its frame. @param {View} view */
  look(view) {
    this.view = held(view);
    this.placed();
    this.changed();
  }

  /** @param {number} dx pixels @param {number} dy pixels */
  pan(dx, dy) {
    const { clientWidth: width, clientHeight: height } = this.main.node;
    this.look({ ...this.view, x: this.view.x + dx / width, y: this.view.y + dy / height });
  }

  /**
   * One pixel of the picture on one of the screen, or the whole picture. A picture smaller than its frame is enlarged.
   */
  toggleSize() {
    if (this.view.scale !== 1) {
      this.look({ scale: 1, x: 0, y: 0 });
      return;
    }
    const one = 1 / (this.main.fit * devicePixelRatio);
    this.zoom(one > 1 ? one : 4);
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    if (closest(event, OWN)) return;
    event.preventDefault();
    const box = (closest(event, ".hl-frame") ?? this.main.node).getBoundingClientRect();
    this.zoom(
      STEP ** (-event.deltaY / 100),
      (event.clientX - box.left) / box.width,
      (event.clientY - box.top) / box.height,
    );
  }

  /** @param {PointerEvent} event */
  pressed(event) {
    if (event.button !== 0 || closest(event, OWN)) return;
    this.pointers.set(event.pointerId, event);
    this.node.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event */
  moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const [other, ...more] = [...this.pointers.values()].filter((one) => one.pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (other && !more.length) this.pinch(other, before, event);
    else if (event.shiftKey && this.window) this.drag(event.clientX - before.clientX, event.clientY - before.clientY);
    else this.pan(event.clientX - before.clientX, event.clientY - before.clientY);
  }

  /** @param {PointerEvent} other @param {PointerEvent} before @param {PointerEvent} now */
  pinch(other, before, now) {
    const box = this.main.node.getBoundingClientRect();
    const [x, y] = [(now.clientX + other.clientX) / 2, (now.clientY + other.clientY) / 2];
    this.zoom(apart(now, other) / apart(before, other), (x - box.left) / box.width, (y - box.top) / box.height);
  }

  /** @param {PointerEvent} event */
  released(event) {
    this.pointers.delete(event.pointerId);
  }

  // -- map, window and level ----------------------------------------------------------------------------------------

  toggleMap() {
    this.map = !this.map;
    this.main.drawMap(this.host.data.run);
    this.changed();
  }

  async toggleWindow() {
    await this.setWindow(this.window ? null : true);
    this.range.querySelector("input")?.focus();
  }

  /** @param {Range | true | null} window */
  async setWindow(window) {
    const { cell } = this;
    this.window = window;
    for (const frame of this.both) await frame.drawWindow(window);
    if (this.cell !== cell) return; // another example is here by now, and this window is not its
    if (window === true && this.window === true) this.window = null; // there is no picture to window
    this.drawRange();
    this.changed();
  }

  /**
   * Shift and drag: sideways the window, up and down the level, as on a viewing station.
   * @param {number} dx
   * @param {number} dy
   */
  drag(dx, dy) {
    const { values } = this.main;
    if (!values || !this.window || this.window === true) return;
    const unit = (values.high - values.low) / 400;
    const window = Math.max(unit, this.window.window + dx * unit);
    this.setWindow({ window, level: this.window.level - dy * unit });
  }

  drawRange() {
    const { values } = this.main;
    const { cell, window } = this;
    if (!window || window === true || !values || !cell) {
      const had = this.range.contains(document.activeElement);
      this.range.hidden = true;
      if (had) this.node.focus({ preventScroll: true }); // what is hidden loses the focus, and the keys with it
      return;
    }
    this.range.hidden = false;
    if (!this.range.childElementCount || this.range.dataset.of !== cell.id) this.buildRange(cell, values);
    for (const input of this.range.querySelectorAll("input")) {
      const value = input.name === "level" ? window.level : window.window;
      input.value = String(value);
      if (input.nextElementSibling) input.nextElementSibling.textContent = String(Number(value.toPrecision(4)));
    }
  }

  /** @param {Cell} cell @param {Values} values */
  buildRange(cell, { low, high, bits }) {
    const fine = (high - low) / 1000;
    const step = bits === 32 ? fine : 1;
    this.range.dataset.of = cell.id;
    this.range.replaceChildren(
      this.slider("level", "Level", { least: low, top: high, step }),
      this.slider("window", "Window", { least: step, top: high - low, step }),
      el(
        "span",
        { class: "hl-quiet" },
        `${bits} bits, ${Number(low.toPrecision(4))} to ${Number(high.toPrecision(4))}`,
      ),
    );
  }

  /**
   * @type {(name: "level" | "window", title: string, range: {least: number, top: number, step: number}) => HTMLElement}
   */
  slider(name, title, { least, top, step }) {
    const input = el("input", { type: "range", name, min: least, max: top, step });
    input.addEventListener("input", () => {
      if (this.window && this.window !== true)
        this.setWindow({ ...this.window, [name]: Math.max(Number(input.value), least) });
    });
    return el("label", {}, `${title} `, input, el("output", {}));
  }

  // -- keys ---------------------------------------------------------------------------------------------------------

  /** Carries out a key that changes how the picture is seen; false where it is none. @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const pan = event.shiftKey ? PANS.get(event.key) : undefined;
    const key = event.key.toLowerCase();
    if (pan) this.pan(...pan);
    else if (key === "+" || key === "=") this.zoom(STEP);
    else if (key === "-") this.zoom(1 / STEP);
    else if (key === "z") this.toggleSize();
    else if (key === "m") this.toggleMap();
    else if (key === "v") this.toggleWindow();
    else return false;
    return true;
  }
}

/** By arrow, the pixels by which the picture moves. @type {Map<string, [number, number]>} */
const PANS = new Map([
  ["ArrowLeft", [PAN, 0]],
  ["ArrowRight", [-PAN, 0]],
  ["ArrowUp", [0, PAN]],
  ["ArrowDown", [0, -PAN]],
]);

/**
 * The view after a zoom that keeps the point at (x, y) where it is.
 * @param {View} view
 * @param {number} by
 * @param {number} x
 * @param {number} y
 */
export function zoomed(view, by, x, y) {
  const scale = Math.max(1, Math.min(MOST, view.scale * by));
  const ratio = scale / view.scale;
  return { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio };
}

/** The view moved so that the picture covers its frame. @param {View} view @returns {View} */
export function held({ scale, x, y }) {
  const hold = (/** @type {number} */ value) => Math.min(0, Math.max(1 - scale, value));
  return { scale, x: hold(x), y: hold(y) };
}

/** The distance of two pointers, never 0. @param {PointerEvent} one @param {PointerEvent} other */
const apart = (one, other) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
