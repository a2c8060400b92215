// The part of the queue that the page sent, and the requests for the next part.

/** @import { SessionData, Target } from "./types.js" */

const REFILL = 80; // cells left after the current one when the next part is requested
const REFILL_BEFORE = 10; // the same towards the queue's start

export class QueueWindow {
  constructor() {
    /** @type {Target[]} */
    this.cells = [];
    /** The place of the first cell in the queue. */
    this.first = 0;
    /** The length of the queue. */
    this.of = 0;
    /** Runs the page for another part; null where it cannot. @type {((by: number) => void) | null} */
    this.turn = null;
    this.isRequested = false;
    /** The example around which a part was requested last. @type {string | null} */
    this.around = null;
    /** The current example of the part that was sent last. @type {string | null} */
    this.sent = null;
    /** The example that an undo wants back. @type {string | null} */
    this.wanted = null;
  }

  /**
   * Takes the part that the page sent.
   * @param {SessionData} data
   * @param {((by: number) => void) | null} turn
   * @returns {boolean} whether the page, not this session, chose another example
   */
  take(data, turn) {
    const isMoved = data.at !== this.sent && data.at !== this.around;
    const cells = data.panels[0]?.cells ?? [];
    this.turn = turn;
    this.first = data.first;
    this.of = data.of;
    this.sent = data.at;
    this.isRequested = false;
    this.cells = cells.map((cell, at) => ({ cell, panel: 0, place: data.first + at }));
    return isMoved;
  }

  /** The place of an example in the window; −1 where it is not in it. @param {string} id */
  placeOf(id) {
    return this.cells.findIndex(({ cell }) => cell.id === id);
  }

  isMoreAfter() {
    return this.first + this.cells.length < this.of;
  }

  /** Requests the part around a place once few cells are left before or after it. @param {number} place */
  refillAt(place) {
    const isNearEnd = this.cells.length - place < REFILL && this.isMoreAfter();
    if (isNearEnd || (place < REFILL_BEFORE && this.first > 0)) this.request(place);
  }

  /** Requests the part around a place, once. @param {number} place */
  request(place) {
    const id = this.cells[place]?.cell.id;
    if (this.isRequested || !this.turn || id === undefined || id === this.around) return;
    this.isRequested = true;
    this.around = id;
    this.turn(1);
  }

  /** Requests the part around an example that an undo opened again. @param {string} id */
  bringBack(id) {
    this.wanted = id;
    this.turn?.(1);
  }
}
