// When a session requests another part of its queue.

import assert from "node:assert/strict";
import { test } from "node:test";

import { QueueWindow } from "../../dashboard/grid/queue_window.js";

/** A part of a queue of 1000 examples, and the requests that it makes. */
function part(first, n, at = `example ${first}`, queue = new QueueWindow()) {
  const cells = Array.from({ length: n }, (_, place) => ({ id: `example ${first + place}` }));
  const turns = [];
  const isMoved = queue.take({ panels: [{ cells }], first, of: 1000, at }, (by) => turns.push(by));
  return { queue, turns, isMoved };
}

test("the next part is requested once few cells are left, and once only", () => {
  const { queue, turns } = part(0, 240);
  queue.refillAt(160);
  assert.equal(turns.length, 0, "80 cells are left");
  queue.refillAt(161);
  queue.refillAt(162);
  assert.deepEqual(turns, [1], "a request is under way");
});

test("no part is requested past either end of the queue", () => {
  const last = part(760, 240);
  last.queue.refillAt(239);
  assert.equal(last.turns.length, 0);
  assert.equal(last.queue.isMoreAfter(), false);
  last.queue.refillAt(9);
  assert.equal(last.turns.length, 1, "the part before");
  const first = part(0, 240);
  first.queue.refillAt(0);
  assert.equal(first.turns.length, 0);
});

test("a part that this session requested does not move it; one that the page chose does", () => {
  const { queue, isMoved } = part(0, 240, "example 0");
  assert.equal(isMoved, true, "the first one");
  queue.request(200);
  const wanted = part(160, 240, "example 200", queue);
  assert.equal(wanted.isMoved, false);
  assert.equal(queue.placeOf("example 200"), 40);
  assert.equal(queue.cells[40].place, 200);
  queue.request(40);
  assert.equal(wanted.turns.length, 0, "the part around it is here");
  assert.equal(part(500, 240, "example 540", queue).isMoved, true);
  assert.equal(part(500, 240, "example 540", queue).isMoved, false, "a rerun");
});
