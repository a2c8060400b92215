// One picture of the viewport in its frame: the picture, its VoG map, its values drawn with a window, or the whole of
// an example that is no picture.

/** @import { Cell, Content } from "./types.js" */
/** @import { Range, Values } from "./window_level.js" */
/** @import { ThumbnailCache } from "./thumbnail_cache.js" */
/** @import { Viewport } from "./viewport.js" */
import { content, smoothen } from "./cells.js";
import { whole } from "./contents.js";
import { el } from "./dom.js";
import { isDrawn } from "./drawn.js";
import { address } from "./http.js";
import { draw, readValues } from "./window_level.js";

const KEPT = 24; // decoded pictures of examples that come next
const PREVIEWS = 60; // decoded thumbnails of them
const COARSE = 3; // screen pixels per picture pixel from which on pixels are drawn as they are

/** Decoded originals, so that the next example is on screen with the key. */
export class DecodedPictures {
  constructor() {
    /** @type {Map<string, HTMLImageElement>} */
    this.images = new Map();
    /** Thumbnails, shown enlarged until the original is there. @type {Map<string, HTMLImageElement>} */
    this.previews = new Map();
  }

  /**
   * The thumbnail of an example as an image, which may still be loading; null for what is no picture.
   * @param {Cell} cell
   * @param {ThumbnailCache} thumbnails
   */
  preview(cell, thumbnails) {
    if (cell.problem || isNoPicture(cell)) return null;
    const known = this.previews.get(cell.id);
    if (known) return known;
    const image = el("img", { class: "hl-image hl-full hl-preview", alt: "", draggable: "false", decoding: "sync" });
    image.addEventListener("load", () => smoothen(image));
    image.addEventListener("error", () => this.previews.delete(cell.id));
    thumbnails.show(image, cell);
    this.previews.set(cell.id, image);
    for (const oldest of this.previews.keys()) {
      if (this.previews.size <= PREVIEWS) break;
      this.previews.delete(oldest);
    }
    return image;
  }

  /** @param {Cell} cell */
  load(cell) {
    if (cell.problem || isNoPicture(cell) || this.images.has(cell.id)) return;
    const image = el("img", { class: "hl-image hl-full", alt: "", draggable: "false", decoding: "sync" });
    image.src = address("image", { id: cell.id, v: cell.fingerprint });
    image.decode().then(
      () => smoothen(image),
      () => this.images.delete(cell.id), // the frame loads it again and says why
    );
    this.images.set(cell.id, image);
    for (const oldest of this.images.keys()) {
      if (this.images.size <= KEPT) break;
      this.images.delete(oldest);
    }
  }

  /** The decoded picture; null where it is not there yet. @param {Cell} cell */
  take(cell) {
    const image = this.images.get(cell.id);
    return image && isDrawn(image) ? image : null;
  }
}

/** @param {Cell} cell */
const isNoPicture = (cell) => (cell.text !== undefined && cell.text !== null) || Boolean(cell.rows);

export class Frame {
  /** @param {Viewport} viewport @param {string} [caption] */
  constructor(viewport, caption) {
    this.viewport = viewport;
    /** @type {Cell | null} */
    this.cell = null;
    /** @type {HTMLElement | null} */
    this.picture = null;
    /** Whether something of the example can be seen: its picture, its thumbnail, its text, or why there is none. */
    this.isVisible = false;
    /** The whole text or all columns, where the example is no picture. @type {Content | null} */
    this.content = null;
    /** @type {Values | null} */
    this.values = null;
    /** @type {HTMLCanvasElement | null} */
    this.canvas = null;
    this.layers = el("div", { class: "hl-layers" });
    this.node = el(
      "div",
      { class: "hl-frame" },
      this.layers,
      caption ? el("p", { class: "hl-caption" }, caption) : null,
    );
  }

  /** @param {Cell} cell */
  show(cell) {
    this.cell = cell;
    this.values = null;
    this.content = null;
    this.picture = this.viewport.decoded.take(cell) ?? this.load(cell);
    this.picture.dataset.shows = cell.id;
    this.isVisible = false;
    this.layers.replaceChildren(this.picture);
    this.node.querySelector(".hl-nomap")?.remove();
    this.place();
    if (!(this.picture instanceof HTMLImageElement) || isDrawn(this.picture)) this.appear(cell);
    else this.showPreview(cell);
  }

  /** Shows the enlarged thumbnail until the original is there. @param {Cell} cell */
  showPreview(cell) {
    const preview = this.viewport.decoded.preview(cell, this.viewport.host.hub.thumbnails);
    if (!preview) return;
    this.layers.prepend(preview);
    if (isDrawn(preview)) this.appear(cell);
    else preview.addEventListener("load", () => this.appear(cell), { once: true });
  }

  /** Something of the example is on screen now. @param {Cell} cell */
  appear(cell) {
    if (this.cell !== cell || this.isVisible) return;
    this.isVisible = true;
    this.viewport.appeared(this);
  }

  /** The original is there, or will not come: then the thumbnail stays. @param {Cell} cell @param {boolean} isLoaded */
  arrived(cell, isLoaded) {
    if (this.cell !== cell) return;
    const preview = this.layers.querySelector(".hl-preview");
    if (isLoaded) preview?.remove();
    else if (preview instanceof HTMLImageElement && isDrawn(preview))
      this.layers.querySelector(".hl-missing")?.remove();
    this.place();
    this.appear(cell);
  }

  /** @param {Cell} cell */
  load(cell) {
    const picture = content(cell);
    picture.classList.add("hl-full");
    if (picture instanceof HTMLImageElement) {
      picture.addEventListener("load", () => this.arrived(cell, true));
      picture.addEventListener("error", () => this.arrived(cell, false));
    }
    return picture;
  }

  /** Fitted size: screen pixels per picture pixel; 1 where there is no picture. */
  get fit() {
    if (!(this.picture instanceof HTMLImageElement) || !this.picture.naturalWidth) return 1;
    const { naturalWidth: width, naturalHeight: height } = this.picture;
    return Math.min(this.node.clientWidth / width, this.node.clientHeight / height);
  }

  place() {
    const { scale, x, y } = this.viewport.view;
    const [width, height] = [this.node.clientWidth, this.node.clientHeight];
    this.layers.style.transform = scale === 1 ? "" : `translate(${x * width}px, ${y * height}px) scale(${scale})`;
    const coarse = scale * this.fit * devicePixelRatio >= COARSE && scale > 1;
    this.layers.classList.toggle("hl-coarse", coarse);
  }

  /**
   * Draws the values with a range, the full one for true; null takes the drawing away.
   * @param {Range | true | null} window
   */
  async drawWindow(window) {
    const { cell, picture, viewport } = this;
    if (!window || !cell || !picture) {
      this.canvas?.remove();
      this.canvas = null;
      return;
    }
    const values = this.values ?? (await readValues(cell, picture, viewport.isDeep(cell)));
    if (this.cell !== cell) return;
    this.values = values;
    if (!values || !viewport.window) return;
    if (viewport.window === true) viewport.window = fullRange(values);
    this.canvas ??= el("canvas", { class: "hl-full hl-canvas", "aria-hidden": "true" });
    if (!this.canvas.isConnected) picture.after(this.canvas);
    draw(this.canvas, values, viewport.window);
  }

  /** Lays the map over the picture. It is off by default: reviewers read it as evidence. @param {string | null} run */
  drawMap(run) {
    this.layers.querySelector(".hl-map")?.remove();
    this.node.querySelector(".hl-nomap")?.remove();
    const { cell, viewport } = this;
    if (!cell) return;
    if (this.content) {
      const about = { id: cell.id, run, memory: viewport.memory };
      this.layers.replaceChildren(whole(this.content, viewport.map, about));
    } else if (viewport.map) this.layers.append(this.mapOf(cell, run));
  }

  /** @param {Cell} cell @param {string | null} run */
  mapOf(cell, run) {
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
    return image;
  }
}

/** The range that shows all values. @param {Values} values @returns {Range} */
const fullRange = ({ low, high }) => ({ level: (low + high) / 2, window: high - low });
