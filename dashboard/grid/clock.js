// The session's clock: how long, how fast, how much is left. It starts from the log's state and counts on from there.

import { el } from "./dom.js";
import { grouped } from "./format.js";
import { request } from "./http.js";

const IDLE = 60; // seconds between two decisions that count as work, as on the server
const EVERY = 30000;

export class Clock {
  /** @param {{left: number | null}} session how many examples are left to decide */
  constructor(session) {
    this.session = session;
    this.node = el("p", { class: "hl-clock hl-quiet", data: { testid: "session-clock" } });
    this.decided = 0;
    this.active = 0; // seconds
    /** When the last example was decided, in milliseconds. @type {number | null} */
    this.last = null;
    this.read();
    this.timer = setInterval(() => this.draw(), EVERY);
  }

  async read() {
    try {
      /** @type {{decided: number, active: number, began: string | null}} */
      const { decided, active, began } = await request("/hardlook/sitting");
      this.decided += decided;
      this.active += active;
      if (began !== null) this.last ??= Date.now();
    } catch {
      // the clock then counts from now on
    }
    this.draw();
  }

  /** Counts examples that were decided for the first time, or (negative) are open again. @param {number} n */
  count(n) {
    const now = Date.now();
    if (this.last !== null) this.active += Math.min(IDLE, (now - this.last) / 1000);
    this.last = now;
    this.decided = Math.max(0, this.decided + n);
    this.draw();
  }

  draw() {
    const { left } = this.session;
    const since = this.last === null ? 0 : Math.min(IDLE, (Date.now() - this.last) / 1000);
    const minutes = (this.active + since) / 60;
    const parts = [`${grouped(this.decided)} decided`];
    if (minutes >= 0.5) parts.push(`in ${round(minutes)} min`);
    const rate = this.decided >= 5 && minutes >= 0.1 ? this.decided / minutes : null;
    if (rate) parts.push(`${round(rate)} a minute`);
    if (left !== null)
      parts.push(`${grouped(left)} left${rate && left ? `, ${duration(left / rate)} at this pace` : ""}`);
    this.node.textContent = parts.join(" · ");
  }

  end() {
    clearInterval(this.timer);
  }
}

/** @param {number} value */
const round = (value) => String(Number(value.toPrecision(value < 10 ? 2 : 3)));
/** @param {number} minutes */
const duration = (minutes) => (minutes < 100 ? `${Math.ceil(minutes)} min` : `${round(minutes / 60)} h`);
