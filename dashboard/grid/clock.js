// The session's clock: how long, how fast, how much is left. It starts from what the log says and counts on from there.

import { ask, el } from "./dom.js";

const IDLE = 60; // seconds between two decisions that count as work, as in scoring.sittings
const EVERY = 30000;

export class Clock {
  constructor(desk) {
    this.desk = desk;
    this.node = el("p", { class: "hl-clock hl-quiet", data: { testid: "session-clock" } });
    this.decided = 0;
    this.active = 0;
    this.last = null;
    this.read();
    this.timer = setInterval(() => this.draw(), EVERY);
  }

  async read() {
    try {
      const { decided, active, began } = await ask("/hardlook/sitting");
      this.decided += decided;
      this.active += active;
      if (began !== null) this.last ??= Date.now();
    } catch {
      // the clock then counts from now on
    }
    this.draw();
  }

  /** Some examples were decided for the first time, or (negative) are open again. */
  count(n) {
    const now = Date.now();
    if (this.last !== null) this.active += Math.min(IDLE, (now - this.last) / 1000);
    this.last = now;
    this.decided = Math.max(0, this.decided + n);
    this.draw();
  }

  draw() {
    const left = this.desk.left;
    const since = this.last === null ? 0 : Math.min(IDLE, (Date.now() - this.last) / 1000);
    const minutes = (this.active + since) / 60;
    const parts = [`${this.decided.toLocaleString("en")} decided`];
    if (minutes >= 0.5) parts.push(`in ${round(minutes)} min`);
    const rate = this.decided >= 5 && minutes >= 0.1 ? this.decided / minutes : null;
    if (rate) parts.push(`${round(rate)} a minute`);
    if (left !== null) parts.push(`${left.toLocaleString("en")} left${rate && left ? `, ${long(left / rate)} at this pace` : ""}`);
    this.node.textContent = parts.join(" · ");
  }

  end() {
    clearInterval(this.timer);
  }
}

const round = (value) => String(Number(value.toPrecision(value < 10 ? 2 : 3)));
const long = (minutes) => (minutes < 100 ? `${Math.ceil(minutes)} min` : `${round(minutes / 60)} h`);
