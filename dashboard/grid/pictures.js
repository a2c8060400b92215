// Thumbnails, a page of them in one request: a hundred requests would cost browser and server a second.

import { address, ask } from "./dom.js";

const KEPT = 800; // some megabytes: the pages around this one
const DECODED = 220; // the next page of the largest grid

export class Pictures {
  constructor() {
    this.known = new Map(); // id and fingerprint → data address, the oldest first
    this.decoded = []; // images of the next page
    this.wanted = new Map(); // id and fingerprint → images that wait for it
  }

  /** Give an image its thumbnail: at once where it is known, else with the next request. */
  show(image, cell) {
    const source = this.known.get(name(cell));
    if (source) image.src = source;
    else this.want(cell, image);
  }

  /** Have the thumbnails of some cells ready before they are asked for. */
  ahead(cells) {
    for (const cell of cells) if (!this.known.has(name(cell))) this.want(cell, null);
  }

  /** The same for examples known by id alone: the next page's. The images are kept decoded. */
  async fetchAhead(ids) {
    const here = new Set([...this.known.keys()].map((key) => key.slice(key.indexOf("|") + 1)));
    const wanted = ids.filter((id) => !here.has(id));
    if (!wanted.length) return;
    const found = await ask("/hardlook/thumbs", JSON.stringify({ ids: wanted, named: true })).catch(() => ({}));
    for (const [id, [fingerprint, source]] of Object.entries(found)) {
      this.keep(name({ id, fingerprint }), source);
      const image = Object.assign(new Image(), { src: source });
      image.decode().catch(() => {});
      this.decoded.push(image);
    }
    this.decoded.splice(0, Math.max(0, this.decoded.length - DECODED));
  }

  want(cell, image) {
    const key = name(cell);
    const waiting = this.wanted.get(key) ?? { cell, images: [] };
    if (image) waiting.images.push(image);
    this.wanted.set(key, waiting);
    if (this.asking) return;
    this.asking = true;
    queueMicrotask(() => this.fetch());
  }

  async fetch() {
    this.asking = false;
    const batch = [...this.wanted];
    this.wanted.clear();
    const found = await ask(
      "/hardlook/thumbs",
      JSON.stringify({ ids: batch.map(([, { cell }]) => cell.id) }),
    ).catch(() => ({}));
    for (const [key, { cell, images }] of batch) {
      const source = found[cell.id];
      if (source) this.keep(key, source);
      // Without an answer each image asks for itself, and says why there is none.
      for (const image of images)
        image.src = source ?? address("thumb", { id: cell.id, v: cell.fingerprint });
    }
  }

  keep(key, source) {
    this.known.set(key, source);
    if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value);
  }
}

const name = (cell) => `${cell.fingerprint}|${cell.id}`;
