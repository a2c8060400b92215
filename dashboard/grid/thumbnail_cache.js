// Thumbnails, a page of them in one request: a hundred requests would cost browser and server a second.

/** @import { Cell } from "./types.js" */
import { address, request } from "./http.js";

const ROUTE = "/hardlook/thumbs";
const KEPT = 800; // some megabytes: the pages around this one
const DECODED = 220; // the next page of the largest grid

export class ThumbnailCache {
  constructor() {
    /** By fingerprint and id, the data address, the oldest first. @type {Map<string, string>} */
    this.known = new Map();
    /** Images of the next page. @type {HTMLImageElement[]} */
    this.decoded = [];
    /**
     * By fingerprint and id, the images that wait for it.
     * @type {Map<string, {cell: Cell, images: HTMLImageElement[]}>}
     */
    this.wanted = new Map();
    this.isScheduled = false;
  }

  /**
   * Gives an image its thumbnail: at once where it is known, else with the next request.
   * @param {HTMLImageElement} image
   * @param {Cell} cell
   */
  show(image, cell) {
    const source = this.known.get(keyOf(cell));
    if (source) image.src = source;
    else this.want(cell, image);
  }

  /** Loads the thumbnails of some cells before they are shown. @param {Cell[]} cells */
  ahead(cells) {
    for (const cell of cells) if (!this.known.has(keyOf(cell))) this.want(cell, null);
  }

  /** The same for examples known by id alone: the next page's. The images are kept decoded. @param {string[]} ids */
  async fetchAhead(ids) {
    const here = new Set([...this.known.keys()].map((key) => key.slice(key.indexOf("|") + 1)));
    const wanted = ids.filter((id) => !here.has(id));
    if (!wanted.length) return;
    /** @type {Record<string, [string | null, string]>} */
    const found = await request(ROUTE, { ids: wanted, named: true }).catch(() => ({}));
    for (const [id, [fingerprint, source]] of Object.entries(found)) {
      this.keep(keyOf({ id, fingerprint }), source);
      const image = Object.assign(new Image(), { src: source });
      image.decode().catch(() => {}); // where it is shown, its cell says that there is no picture
      this.decoded.push(image);
    }
    this.decoded.splice(0, Math.max(0, this.decoded.length - DECODED));
  }

  /** @param {Cell} cell @param {HTMLImageElement | null} image */
  want(cell, image) {
    const key = keyOf(cell);
    const waiting = this.wanted.get(key) ?? { cell, images: [] };
    if (image) waiting.images.push(image);
    this.wanted.set(key, waiting);
    if (this.isScheduled) return;
    this.isScheduled = true;
    queueMicrotask(() => this.fetch());
  }

  async fetch() {
    this.isScheduled = false;
    const batch = [...this.wanted];
    this.wanted.clear();
    /** @type {Record<string, string>} */
    const found = await request(ROUTE, { ids: batch.map(([, { cell }]) => cell.id) }).catch(() => ({}));
    for (const [key, { cell, images }] of batch) {
      const source = found[cell.id];
      if (source) this.keep(key, source);
      // Without an answer each image loads from an address of its own, and shows why there is none.
      for (const image of images) image.src = source ?? address("thumb", { id: cell.id, v: cell.fingerprint });
    }
  }

  /** @param {string} key @param {string} source */
  keep(key, source) {
    this.known.set(key, source);
    const [oldest] = this.known.keys();
    if (this.known.size > KEPT && oldest !== undefined) this.known.delete(oldest);
  }
}

/** @param {Pick<Cell, "id" | "fingerprint">} cell */
const keyOf = (cell) => `${cell.fingerprint}|${cell.id}`;
