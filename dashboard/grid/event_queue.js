// The lossless queue: an event is kept in this browser from the key press until the log has acknowledged it.
//
// Each event is one entry of localStorage under audit, client and number, so that adding and removing never rewrites
// another entry and two tabs never disturb each other. A tab that was closed leaves its entries; the next tab sends
// them. Sending twice is harmless: the log knows (client, seq). A client is one life of one page, so a duplicated tab
// never reuses numbers.

/** @import { EventKey, EventsAnswer, KeptEvent, NewEvent, RefusedEvent } from "./types.js" */
import { reason, Refused, sendJson } from "./http.js";

const WIDTH = 9;
const BATCH = 200;
const ADOPT_AFTER = 5000; // a living tab sends its own events within that time
const LOOK_AROUND = 15000;
const LONGEST_WAIT = 4000;
const KEEPALIVE_BYTES = 60000; // browsers refuse larger bodies that outlive the page

export class EventQueue {
  /**
   * @param {object} options
   * @param {string} options.audit the token of the page's audit
   * @param {string | null} options.reviewer
   * @param {Storage} options.storage
   * @param {() => void} options.changed called whenever something was added, sent or refused
   * @param {(answer: EventsAnswer, saved: KeptEvent[]) => void} options.answered
   */
  constructor({ audit, reviewer, storage, changed, answered }) {
    this.audit = audit;
    this.reviewer = reviewer;
    this.storage = storage;
    this.changed = changed;
    this.answered = answered;
    this.client = newClient();
    this.seq = 0;
    /** Own events and adopted ones, in the order in which they are sent. @type {KeptEvent[]} */
    this.waiting = [];
    /** In the log, but not yet in the states that were read. @type {{event: KeptEvent, position: number}[]} */
    this.acknowledged = [];
    /** @type {RefusedEvent[]} */
    this.refused = [];
    this.failures = 0;
    /** Why the last attempt failed. @type {{status: number, message: string} | null} */
    this.trouble = null;
    this.kept = true; // false where this browser keeps nothing
    this.sending = false;
    this.ended = false;
    /** @type {number | undefined} */
    this.retry = undefined;
    this.adopt(0);
    this.clock = setInterval(() => this.adopt(ADOPT_AFTER), LOOK_AROUND);
    addEventListener("online", () => this.flush());
    addEventListener("pagehide", () => this.flush());
    document.addEventListener("visibilitychange", () => this.flush());
  }

  /** Numbers, keeps and sends events; returns them as they are kept. @param {NewEvent[]} events */
  add(events) {
    const time = Date.now();
    const kept = events.map((event) => ({
      ...event,
      client: this.client,
      seq: ++this.seq,
      time,
      by: this.reviewer,
    }));
    for (const event of kept) this.keep(event);
    this.waiting.push(...kept);
    this.changed();
    this.flush();
    return kept;
  }

  /**
   * Events about one example that are not in the states read from the log: acknowledged ones first.
   * @param {string} id
   */
  of(id) {
    return [...this.acknowledged.map((one) => one.event), ...this.waiting].filter((event) => concerns(event, id));
  }

  /** Whether an event about this example is not in the log yet. @param {string} id */
  isSaving(id) {
    return this.waiting.some((event) => concerns(event, id));
  }

  /**
   * Forgets the acknowledged events up to a position: the states were read from the log up to there.
   * @param {number} position
   */
  readUpTo(position) {
    this.acknowledged = this.acknowledged.filter((one) => one.position > position);
  }

  /**
   * Takes over the events that closed tabs left; those younger than `age` ms may still be sent by a living tab.
   * @param {number} age
   */
  adopt(age) {
    const known = new Set(this.waiting.map(keyOf));
    const found = this.stored().filter((event) => event.client !== this.client && !known.has(keyOf(event)));
    const left = found.filter((event) => Date.now() - event.time >= age);
    if (!left.length) return;
    left.sort((a, b) => (a.client === b.client ? a.seq - b.seq : a.time - b.time));
    this.waiting.unshift(...left);
    this.changed();
    this.flush();
  }

  /** Sends until nothing waits. One request at a time keeps the order. */
  async flush() {
    if (this.sending || !this.waiting.length || this.ended || this.stopped()) return;
    this.sending = true;
    clearTimeout(this.retry);
    try {
      while (this.waiting.length) await this.send(this.waiting.slice(0, BATCH));
      this.failures = 0;
      this.trouble = null;
    } catch (error) {
      this.trouble = { status: error instanceof Refused ? error.status : 0, message: reason(error) };
      this.failures += 1;
      if (!this.stopped()) this.retry = setTimeout(() => this.flush(), this.pause());
    } finally {
      this.sending = false;
      this.changed();
    }
  }

  /** Whether everything is in the log, after waiting for it at most some milliseconds. @param {number} within */
  async empty(within) {
    const until = Date.now() + within;
    while (this.waiting.length && Date.now() < until && !this.stopped())
      await new Promise((done) => setTimeout(done, 30));
    return !this.waiting.length;
  }

  /** Milliseconds until the next attempt: soon at first, never longer than a person waits. */
  pause() {
    return Math.min(LONGEST_WAIT, 250 * 2 ** (this.failures - 1)) * (0.75 + Math.random() / 2);
  }

  /** Sends nothing more from here; what waits is kept for a page that may send it. */
  stop() {
    clearInterval(this.clock);
    clearTimeout(this.retry);
    this.ended = true;
  }

  /** Whether trying again cannot help: the server refuses this page. */
  stopped() {
    return this.trouble !== null && [403, 409].includes(this.trouble.status);
  }

  /** @param {KeptEvent[]} events */
  async send(events) {
    const body = JSON.stringify({ audit: this.audit, events: events.map(forServer) });
    /** @type {EventsAnswer} */
    const answer = await sendJson("/hardlook/events", body, { keepalive: body.length < KEEPALIVE_BYTES });
    for (const refusal of answer.refused) {
      const event = events.find((one) => one.client === refusal.client && one.seq === refusal.seq);
      if (event) this.refused.push({ ...event, reason: refusal.reason });
    }
    const refused = new Set(answer.refused.map(keyOf));
    const saved = new Set(answer.saved.map(keyOf));
    const done = events.filter((event) => refused.has(keyOf(event)) || saved.has(keyOf(event)));
    if (!done.length) throw new Error("the server acknowledged nothing");
    this.drop(done);
    const inLog = done.filter((event) => saved.has(keyOf(event)));
    this.acknowledged.push(...inLog.map((event) => ({ event, position: answer.position })));
    this.trouble = null;
    this.failures = 0;
    this.answered(answer, inLog);
    this.changed();
  }

  /** @param {KeptEvent[]} events */
  drop(events) {
    const gone = new Set(events.map(keyOf));
    this.waiting = this.waiting.filter((event) => !gone.has(keyOf(event)));
    for (const event of events) {
      try {
        this.storage.removeItem(this.entry(event));
      } catch {
        this.kept = false;
      }
    }
  }

  /** @param {KeptEvent} event */
  keep(event) {
    try {
      this.storage.setItem(this.entry(event), JSON.stringify(event));
    } catch {
      this.kept = false; // full or forbidden: the event lives in this page only, and the status says so
    }
  }

  /** The name of an event's entry in the storage. @param {EventKey} event */
  entry(event) {
    return `hardlook|${this.audit}|${event.client}|${String(event.seq).padStart(WIDTH, "0")}`;
  }

  /** Everything that this browser keeps for this audit and this reviewer, whichever tab wrote it. */
  stored() {
    const prefix = `hardlook|${this.audit}|`;
    /** @type {KeptEvent[]} */
    const events = [];
    try {
      for (let at = 0; at < this.storage.length; at += 1) {
        const key = this.storage.key(at);
        const event = key?.startsWith(prefix) ? parse(this.storage.getItem(key)) : null;
        if (event && event.by === this.reviewer) events.push(event);
      }
    } catch {
      this.kept = false;
    }
    return events;
  }
}

/**
 * Whether an event is about an example; an undo may take back a bulk act: `before` then names every example of it.
 * @type {(event: KeptEvent, id: string) => boolean}
 */
const concerns = (event, id) =>
  event.example_id === id || (event.before !== undefined && Object.hasOwn(event.before, id));

/** @param {EventKey} event */
const keyOf = (event) => `${event.client}|${event.seq}`;

/** An event without what only this page needs. @param {KeptEvent} event */
const forServer = ({ time: _time, by: _by, before: _before, ...event }) => event;

/** An entry of the storage; null where it is no event. @param {string | null} text @returns {KeptEvent | null} */
function parse(text) {
  if (text === null) return null;
  try {
    const event = JSON.parse(text);
    return typeof event?.client === "string" && Number.isInteger(event.seq) ? event : null;
  } catch {
    return null;
  }
}

/** A fresh name for this life of this page; `randomUUID` is missing on plain http addresses. */
function newClient() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `grid-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
