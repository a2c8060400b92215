// The lossless queue: an event is kept in this browser from the key press until the log has acknowledged it.
//
// Each event is one entry of localStorage under audit, client and number, so that adding and removing never rewrites
// another entry and two tabs never disturb each other. A tab that was closed leaves its entries behind; the next tab
// sends them. Sending twice is harmless: the log knows (client, seq). A client is one life of one page, so a
// duplicated tab never reuses numbers.

import { ask } from "./dom.js";

const WIDTH = 9;
const BATCH = 200;
const ADOPT_AFTER = 5000; // a living tab sends its own events within that time
const LOOK_AROUND = 15000;
const LONGEST_WAIT = 4000;
const KEEPALIVE_BYTES = 60000; // browsers refuse larger bodies that outlive the page

export class EventQueue {
  /** `audit` and `reviewer` as the page was told; `changed` is called whenever something was added, sent or refused. */
  constructor({ audit, reviewer, storage, changed = () => {}, answered = () => {} }) {
    Object.assign(this, { audit, reviewer, storage, changed, answered });
    this.client = newClient();
    this.seq = 0;
    this.waiting = []; // own events and adopted ones, in the order in which they are sent
    this.landing = []; // in the log, but not yet in what the board has read: [{event, position}]
    this.refused = [];
    this.failures = 0;
    this.trouble = null; // why the last attempt failed: {status, message}
    this.kept = true; // false where this browser keeps nothing
    this.adopt(0);
    this.clock = setInterval(() => this.adopt(ADOPT_AFTER), LOOK_AROUND);
    addEventListener("online", () => this.flush());
    addEventListener("pagehide", () => this.flush());
    document.addEventListener("visibilitychange", () => this.flush());
  }

  /** Number, keep and send events; returns them as they are kept. */
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

  /** Events about one example that the board has not read from the log: acknowledged ones first. */
  of(id) {
    return [...this.landing.map((one) => one.event), ...this.waiting].filter((event) => concerns(event, id));
  }

  /** Whether something about this example is not in the log yet. */
  isSaving(id) {
    return this.waiting.some((event) => concerns(event, id));
  }

  /** The board has read the log up to here. */
  landed(position) {
    this.landing = this.landing.filter((one) => one.position > position);
  }

  /** Take over what closed tabs left behind; `age` in ms spares the events that a living tab is just sending. */
  adopt(age) {
    const known = new Set(this.waiting.map(name));
    const found = this.stored().filter((event) => event.client !== this.client && !known.has(name(event)));
    const left = found.filter((event) => Date.now() - event.time >= age);
    if (!left.length) return;
    left.sort((a, b) => (a.client === b.client ? a.seq - b.seq : a.time - b.time));
    this.waiting.unshift(...left);
    this.changed();
    this.flush();
  }

  /** Send until nothing waits. One request at a time keeps the order. */
  async flush() {
    if (this.sending || !this.waiting.length || this.ended || this.stopped()) return;
    this.sending = true;
    clearTimeout(this.retry);
    try {
      while (this.waiting.length) await this.send(this.waiting.slice(0, BATCH));
      this.failures = 0;
      this.trouble = null;
    } catch (error) {
      this.trouble = { status: error.status ?? 0, message: error.message };
      this.failures += 1;
      if (!this.stopped()) this.retry = setTimeout(() => this.flush(), this.pause());
    } finally {
      this.sending = false;
      this.changed();
    }
  }

  /** Whether everything is in the log, waiting for it at most some milliseconds. */
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

  /** Send nothing more from here; what waits is kept for a page that may send it. */
  stop() {
    clearInterval(this.clock);
    clearTimeout(this.retry);
    this.ended = true;
  }

  /** Whether trying again cannot help: the server said who may write, and it is not this page. */
  stopped() {
    return this.trouble !== null && [403, 409].includes(this.trouble.status);
  }

  async send(events) {
    const body = JSON.stringify({ audit: this.audit, events: events.map(wire) });
    const answer = await ask("/hardlook/events", body, { keepalive: body.length < KEEPALIVE_BYTES });
    for (const refusal of answer.refused) {
      const event = events.find((one) => one.client === refusal.client && one.seq === refusal.seq);
      if (event) this.refused.push({ ...event, reason: refusal.reason });
    }
    const refused = new Set(answer.refused.map(name));
    const saved = new Set(answer.saved.map(name));
    const done = events.filter((event) => refused.has(name(event)) || saved.has(name(event)));
    if (!done.length) throw new Error("the server acknowledged nothing");
    this.drop(done);
    this.landing.push(
      ...done
        .filter((event) => saved.has(name(event)))
        .map((event) => ({ event, position: answer.position })),
    );
    this.trouble = null;
    this.failures = 0;
    this.answered(
      answer,
      done.filter((event) => saved.has(name(event))),
    );
    this.changed();
  }

  drop(events) {
    const gone = new Set(events.map(name));
    this.waiting = this.waiting.filter((event) => !gone.has(name(event)));
    for (const event of events) {
      try {
        this.storage.removeItem(this.entry(event));
      } catch {
        this.kept = false;
      }
    }
  }

  keep(event) {
    try {
      this.storage.setItem(this.entry(event), JSON.stringify(event));
    } catch {
      this.kept = false; // full or forbidden: the event lives in this page only, and the status says so
    }
  }

  entry(event) {
    return `hardlook|${this.audit}|${event.client}|${String(event.seq).padStart(WIDTH, "0")}`;
  }

  /** Everything that this browser keeps for this audit and this reviewer, whichever tab wrote it. */
  stored() {
    const prefix = `hardlook|${this.audit}|`;
    const events = [];
    try {
      for (let at = 0; at < this.storage.length; at += 1) {
        const key = this.storage.key(at);
        if (key?.startsWith(prefix)) events.push(parse(this.storage.getItem(key)));
      }
    } catch {
      this.kept = false;
    }
    return events.filter((event) => event !== null && event.by === this.reviewer);
  }
}

/** An undo may take back a bulk act: `before` then names every example of it. */
const concerns = (event, id) =>
  event.example_id === id || (event.before !== undefined && Object.hasOwn(event.before, id));

const name = (event) => `${event.client}|${event.seq}`;

/** What goes over the wire: without what only this page needs. */
const wire = ({ time, by, before, ...event }) => event;

function parse(text) {
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
