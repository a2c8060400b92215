// The large picture: wheel zoom, pan, 1:1, window and level, the VoG map on a key, and a second picture beside it.
//
// Zoom and place are shared by both pictures, as shares of the frame, so that the same part of two examples is compared.

import { content, smoothen } from "./cells.js";
import { whole } from "./contents.js";
import { address, el } from "./dom.js";
import { draw, readValues } from "./pixels.js";

const MOST = 64; // times the fitted size
const STEP = 1.25;
const PAN = 60; // pixels per arrow key
const KEPT = 24; // decoded pictures of examples that come next
const OWN = ".hl-range, .hl-text, .hl-rows, .hl-whole"; // what scrolls and is selected as text is
const COARSE = 3; // screen pixels per picture pixel from which on pixels are drawn as they are

/** Decoded originals, so that the next example is on screen with the key. */
class Ready {
  constructor() {
    this.images = new Map();
  }

  load(cell) {
    if (!cell || cell.problem || hasOwnLook(cell) || this.images.has(cell.id)) return;
    const image = el("img", { class: "hl-image hl-full", alt: "", draggable: "false", decoding: "sync" });
    image.src = address("image", { id: cell.id, v: cell.fingerprint });
    image.decode().then(
      () => smoothen(image),
      () => this.images.delete(cell.id), // the stage asks again and says why
    );
    this.images.set(cell.id, image);
    while (this.images.size > KEPT) this.images.delete(this.images.keys().next().value);
  }

  take(cell) {
    const image = this.images.get(cell.id);
    if (!image?.complete || !image.naturalWidth) return null;
    return image;
  }
}

const hasOwnLook = (cell) => (cell.text !== undefined && cell.text !== null) || Boolean(cell.rows);

/** One picture in its frame. */
class Frame {
  constructor(stage, caption) {
    this.stage = stage;
    this.layers = el("div", { class: "hl-layers" });
    this.node = el("div", { class: "hl-frame" }, this.layers);
    if (caption) this.node.append(el("p", { class: "hl-caption" }, caption));
  }

  show(cell) {
    this.cell = cell;
    this.values = null;
    this.content = null; // the whole text or all columns, where the example is no picture
    this.picture = this.stage.ready.take(cell) ?? this.fresh(cell);
    this.picture.dataset.shows = cell.id;
    this.layers.replaceChildren(this.picture);
    this.node.querySelector(".hl-nomap")?.remove();
    this.place();
  }

  fresh(cell) {
    const picture = content(cell);
    picture.classList.add("hl-full");
    if (picture.tagName === "IMG") picture.addEventListener("load", () => this.place());
    return picture;
  }

  /** Fitted size: screen pixels per picture pixel. */
  get fit() {
    const { naturalWidth: width, naturalHeight: height } = this.picture ?? {};
    if (!width) return 1;
    return Math.min(this.node.clientWidth / width, this.node.clientHeight / height);
  }

  place() {
    const { scale, x, y } = this.stage.view;
    const [width, height] = [this.node.clientWidth, this.node.clientHeight];
    this.layers.style.transform = scale === 1 ? "" : `translate(${x * width}px, ${y * height}px) scale(${scale})`;
    const coarse = scale * this.fit * devicePixelRatio >= COARSE && scale > 1;
    this.layers.classList.toggle("hl-coarse", coarse);
  }

  async drawWindow(window) {
    if (!window) {
      this.canvas?.remove();
      this.canvas = null;
      return;
    }
    const cell = this.cell;
    this.values ??= await readValues(cell, this.picture, this.stage.isDeep(cell));
    if (this.cell !== cell || !this.values || !this.stage.window) return;
    const range = this.stage.window === true ? (this.stage.window = full(this.values)) : this.stage.window;
    this.canvas ??= el("canvas", { class: "hl-full hl-canvas", "aria-hidden": "true" });
    if (!this.canvas.isConnected) this.picture.after(this.canvas);
    draw(this.canvas, this.values, range);
  }

  /** Lay the map over the picture. It is off by default: reviewers read it as evidence. */
  drawMap(run) {
    this.layers.querySelector(".hl-map")?.remove();
    this.node.querySelector(".hl-nomap")?.remove();
    if (this.content) {
      const about = { id: this.cell.id, run, memory: this.stage.memory };
      this.layers.replaceChildren(whole(this.content, this.stage.map, about));
    }
    if (!this.stage.map || this.content) return;
    const cell = this.cell;
    const image = el("img", {
      class: "hl-map",
      alt: "VoG map: bright where the gradient varies most between checkpoints",
      src: address("map", { id: cell.id, run, v: cell.fingerprint }),
    });
    image.addEventListener("load", () => smoothen(image));
    image.addEventListener("error", () => {
      if (!image.isConnected) return;
      image.remove();
      this.node.append(el("p", { class: "hl-nomap" }, "No VoG map is kept for this example."));
    });
    this.layers.append(image);
  }
}

/** The range that shows everything. */
const full = ({ low, high }) => ({ level: (low + high) / 2, window: high - low });

export class Stage {
  /** `desk` supplies run and facts; `changed` is told when zoom, map, window or the second picture changed. */
  constructor(desk, changed = () => {}) {
    Object.assign(this, { desk, changed });
    this.ready = new Ready();
    this.view = { scale: 1, x: 0, y: 0 };
    this.map = false;
    this.memory = {}; // of what is drawn of an example that is no picture
    this.window = null;
    this.pointers = new Map();
    this.main = new Frame(this);
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
          pointerdown: (event) => this.down(event),
          pointermove: (event) => this.moved(event),
          pointerup: (event) => this.up(event),
          pointercancel: (event) => this.up(event),
          dblclick: () => this.toggleSize(),
        },
      },
      this.frames,
      this.range,
    );
    this.node.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => this.placed()).observe(this.node);
  }

  /** Show an example; what was looked at closely before says nothing about this one. */
  show(cell) {
    this.cell = cell;
    this.view = { scale: 1, x: 0, y: 0 };
    this.map = false;
    if (this.second) this.beside(null);
    if (this.window) this.setWindow(null);
    this.main.show(cell);
  }

  /** The whole of an example that is no picture, once it is known. */
  setContent(content) {
    this.main.content = content;
    this.main.drawMap(this.desk.data.run);
  }

  isDeep(cell) {
    return this.desk.isDeep?.(cell) ?? true;
  }

  // -- a second picture ---------------------------------------------------------------------------------------------

  /** Put another example beside this one, or take it away. */
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

  /** Zoom by a factor, keeping the point at (x, y), shares of the frame, where it is. */
  zoom(by, x = 0.5, y = 0.5) {
    const scale = Math.max(1, Math.min(MOST, this.view.scale * by));
    const ratio = scale / this.view.scale;
    this.look({ scale, x: x - (x - this.view.x) * ratio, y: y - (y - this.view.y) * ratio });
  }

  /** Take a view; the picture never leaves its frame. */
  look({ scale, x, y }) {
    const hold = (value) => Math.min(0, Math.max(1 - scale, value));
    this.view = { scale, x: hold(x), y: hold(y) };
    this.placed();
    this.changed();
  }

  pan(dx, dy) {
    const { clientWidth: width, clientHeight: height } = this.main.node;
    this.look({ ...this.view, x: this.view.x + dx / width, y: this.view.y + dy / height });
  }

  /** One pixel of the picture on one of the screen, or the whole picture. A picture smaller than its frame is enlarged. */
  toggleSize() {
    if (this.view.scale !== 1) return this.look({ scale: 1, x: 0, y: 0 });
    const one = 1 / (this.main.fit * devicePixelRatio);
    return this.zoom(one > 1 ? one : 4);
  }

  at(event) {
    const node = event.target.closest?.(".hl-frame") ?? this.main.node;
    const box = node.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  wheel(event) {
    if (event.target.closest(OWN)) return;
    event.preventDefault();
    this.zoom(STEP ** (-event.deltaY / 100), ...this.at(event));
  }

  down(event) {
    if (event.button !== 0 || event.target.closest(OWN)) return;
    this.pointers.set(event.pointerId, event);
    this.node.setPointerCapture(event.pointerId);
  }

  moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers.values()].filter((one) => one.pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (others.length === 1) this.pinch(others[0], before, event);
    else if (event.shiftKey && this.window) this.drag(event.clientX - before.clientX, event.clientY - before.clientY);
    else this.pan(event.clientX - before.clientX, event.clientY - before.clientY);
  }

  pinch(other, before, now) {
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    const box = this.main.node.getBoundingClientRect();
    const middle = [(now.clientX + other.clientX) / 2, (now.clientY + other.clientY) / 2];
    this.zoom(apart(now) / apart(before), (middle[0] - box.left) / box.width, (middle[1] - box.top) / box.height);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
  }

  // -- map, window and level ----------------------------------------------------------------------------------------

  toggleMap() {
    this.map = !this.map;
    this.main.drawMap(this.desk.data.run);
    this.changed();
  }

  async toggleWindow() {
    await this.setWindow(this.window ? null : true);
    this.range.querySelector("input")?.focus();
  }

  async setWindow(window) {
    const { cell } = this;
    this.window = window;
    for (const frame of this.both) await frame.drawWindow(window);
    if (this.cell !== cell) return; // another example is here by now, and this window is not its
    if (window === true && this.window === true) this.window = null; // there is no picture to window
    this.drawRange();
    this.changed();
  }

  /** Shift and drag: sideways the window, up and down the level, as on a viewing station. */
  drag(dx, dy) {
    const { low, high } = this.main.values ?? {};
    if (low === undefined) return;
    const unit = (high - low) / 400;
    const window = Math.max(unit, this.window.window + dx * unit);
    this.setWindow({ window, level: this.window.level - dy * unit });
  }

  drawRange() {
    const values = this.main.values;
    const had = this.range.contains(document.activeElement);
    this.range.hidden = !this.window || !values;
    if (this.range.hidden) {
      if (had) this.node.focus({ preventScroll: true }); // what is hidden loses the focus, and the keys with it
      return;
    }
    if (!this.range.childElementCount || this.range.dataset.of !== this.cell.id) this.buildRange(values);
    for (const input of this.range.querySelectorAll("input")) {
      input.value = String(this.window[input.name]);
      input.nextElementSibling.textContent = String(Number(this.window[input.name].toPrecision(4)));
    }
  }

  buildRange({ low, high, bits }) {
    this.range.dataset.of = this.cell.id;
    const slider = (name, title, least) => {
      const change = (event) =>
        this.setWindow({ ...this.window, [name]: Math.max(Number(event.target.value), least) });
      const step = bits === 32 ? (high - low) / 1000 : 1;
      const top = name === "window" ? high - low : high;
      return el(
        "label",
        {},
        `${title} `,
        el("input", { type: "range", name, min: String(least), max: String(top), step: String(step), on: { input: change } }),
        el("output", {}),
      );
    };
    this.range.replaceChildren(
      slider("level", "Level", low),
      slider("window", "Window", bits === 32 ? (high - low) / 1000 : 1),
      el("span", { class: "hl-quiet" }, `${bits} bits, ${Number(low.toPrecision(4))} to ${Number(high.toPrecision(4))}`),
    );
  }

  // -- keys ---------------------------------------------------------------------------------------------------------

  /** A key that changes how the picture is seen; true where it was one. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const pans = {
      ArrowLeft: [PAN, 0],
      ArrowRight: [-PAN, 0],
      ArrowUp: [0, PAN],
      ArrowDown: [0, -PAN],
    };
    if (event.shiftKey && pans[event.key]) this.pan(...pans[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(STEP);
    else if (event.key === "-") this.zoom(1 / STEP);
    else if (event.key.toLowerCase() === "z") this.toggleSize();
    else if (event.key.toLowerCase() === "m") this.toggleMap();
    else if (event.key.toLowerCase() === "v") this.toggleWindow();
    else return false;
    return true;
  }
}
