// What a search finds, and how numbers are written.

import assert from "node:assert/strict";
import { test } from "node:test";

import { matches } from "../../dashboard/grid/dialogs.js";
import { figure, plural } from "../../dashboard/grid/format.js";

test("a search finds letters anywhere, exact names first, then beginnings", () => {
  const names = ["scatter", "Cat", "cattle", "dog", "cats"];
  assert.deepEqual(matches(names, " CAT "), ["Cat", "cattle", "cats", "scatter"]);
  assert.deepEqual(matches(names, " "), names);
  assert.deepEqual(matches(names, "x"), []);
});

test("numbers have three digits, very small and very large ones an exponent", () => {
  assert.deepEqual([0, 0.12345, 1234.5, 1e-5, 123456, null, NaN].map(figure), [
    "0",
    "0.123",
    "1230",
    "1.00e-5",
    "1.23e+5",
    "–",
    "–",
  ]);
  assert.deepEqual([plural(1, "example"), plural(1200, "example")], ["1 example", "1,200 examples"]);
});
