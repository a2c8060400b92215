// Where a zoom, an arrow and a window lead.

import assert from "node:assert/strict";
import { test } from "node:test";

import { verticalMove } from "../../dashboard/grid/vertical_move.js";
import { held, zoomed } from "../../dashboard/grid/viewport.js";
import { stretch } from "../../dashboard/grid/window_level.js";

const near = (one, other) => assert.ok(Math.abs(one - other) < 1e-12, `${one} is not ${other}`);
/** The point of the picture, as a share of it, that lies at a share of the frame. */
const under = ({ scale, x }, share) => (share - x) / scale;

test("a zoom keeps the point under the pointer", () => {
  let view = { scale: 1, x: 0, y: 0 };
  for (const [by, at] of [
    [1.25, 0.3],
    [4, 0.9],
    [0.5, 0.1],
    [3, 0.6],
  ]) {
    const next = zoomed(view, by, at, at);
    near(under(next, at), under(view, at));
    view = next;
  }
});

test("a zoom ends at the fitted size and at 64 times it", () => {
  assert.equal(zoomed({ scale: 2, x: 0, y: 0 }, 0.1, 0.5, 0.5).scale, 1);
  assert.equal(zoomed({ scale: 60, x: 0, y: 0 }, 10, 0.5, 0.5).scale, 64);
});

test("the picture never leaves its frame", () => {
  assert.deepEqual(held({ scale: 3, x: 0.5, y: -5 }), { scale: 3, x: 0, y: -2 });
  assert.deepEqual(held({ scale: 3, x: -1, y: -2 }), { scale: 3, x: -1, y: -2 });
  assert.deepEqual(Object.values(held({ scale: 1, x: 0.2, y: -0.2 })).map(Math.abs), [1, 0, 0]);
});

test("arrows keep the column through rows, short rows and panels", () => {
  const [sizes, columns] = [[5, 0, 4], 3]; // rows: 0 1 2 | 3 4 || 5 6 7 | 8
  const move = (panel, place, down) => verticalMove(sizes, columns, panel, place, down);
  assert.equal(move(0, 1, true), 4);
  assert.equal(move(0, 2, true), 4, "a short row ends at its last cell");
  assert.equal(move(0, 4, true), 6, "over an empty panel into the next one");
  assert.equal(move(2, 2, true), 8);
  assert.equal(move(2, 0, false), 3, "up into the last row of the panel before");
  assert.equal(move(2, 2, false), 4);
  assert.equal(move(2, 3, true), null);
  assert.equal(move(0, 0, false), null);
});

test("a window maps what is below it to black and what is above it to white", () => {
  const grey = new Uint8ClampedArray(12);
  stretch(grey, new Uint16Array([60, 200, 700]), 1, 100, 0.5);
  assert.deepEqual([...grey], [0, 0, 0, 255, 50, 50, 50, 255, 255, 255, 255, 255]);
  const colour = new Uint8ClampedArray(4);
  stretch(colour, new Uint8ClampedArray([10, 20, 30, 77]), 4, 10, 2);
  assert.deepEqual([...colour], [0, 20, 40, 77], "alpha stays");
});
