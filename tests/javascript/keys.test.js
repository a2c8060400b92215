// Which action a key stands for, which class a digit means.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { actionOf, digitClass, isHeld } from "../../dashboard/grid/keys.js";
import { actions, bulkActions, decisionText, setVerdicts } from "../../dashboard/grid/verdicts.js";

const VERDICTS = [
  { name: "given", act: "right", key: "q", title: "Right", help: "", bulk: "All right", badge: "✓ right" },
  { name: "other", act: "other", key: "l", title: "Other…", help: "", bulk: "All another…", badge: "→ {new_label}" },
  { name: "several", act: "several", key: "b", title: "Several…", help: "", bulk: "", badge: "⧉ {labels}" },
];
const press = (key, more = {}) => ({
  key,
  ctrlKey: false,
  metaKey: false,
  shiftKey: false,
  altKey: false,
  repeat: false,
  ...more,
});

before(() => setVerdicts(VERDICTS));

test("a key stands for the action of the same letter, whatever its case", () => {
  assert.deepEqual(actionOf(press("q")), ["right"]);
  assert.deepEqual(actionOf(press("Q", { shiftKey: true })), ["right"]);
  assert.deepEqual(actionOf(press("/")), ["other"]);
  assert.deepEqual(actionOf(press("i")), ["influence"]);
  assert.deepEqual(actionOf(press("7")), ["digit", "7"]);
  assert.equal(actionOf(press("y")), null);
});

test("a browser's own shortcut decides nothing; undo has a key and a shortcut", () => {
  assert.equal(actionOf(press("q", { ctrlKey: true })), null);
  assert.equal(actionOf(press("7", { metaKey: true })), null);
  assert.equal(actionOf(press("q", { altKey: true })), null);
  assert.equal(actionOf(press("z", { ctrlKey: true, shiftKey: true })), null);
  assert.deepEqual(actionOf(press("z", { metaKey: true })), ["undo"]);
  assert.deepEqual(actionOf(press("Backspace")), ["undo"]);
});

test("a held key repeats a move and no decision", () => {
  const held = (key) => isHeld(press(key, { repeat: true }));
  assert.deepEqual(["q", "5", "Enter", "Backspace"].map(held), [true, true, true, true]);
  assert.deepEqual(["ArrowRight", " ", "+", "["].map(held), [false, false, false, false]);
  assert.equal(isHeld(press("q")), false);
});

test("a digit is a class of that name, else a place", () => {
  const animals = Array.from({ length: 12 }, (_, at) => `animal ${at}`);
  assert.equal(digitClass(animals, "1"), "animal 0");
  assert.equal(digitClass(animals, "0"), "animal 9");
  assert.equal(digitClass(["3", "cat"], "3"), "3");
  assert.equal(digitClass(["3", "cat"], "1"), null);
  assert.equal(digitClass(["cat"], "2"), null);
});

test("the suggestion comes after the first verdict; bulk actions are those that have a bulk title", () => {
  assert.deepEqual(
    actions().map(({ name }) => name),
    ["right", "suggested", "other", "several", "issue", "flag", "note"],
  );
  assert.deepEqual(
    bulkActions("dog").map(({ title }) => title),
    ["All right", "All → dog", "All another…"],
  );
});

test("a class name that looks like a field of a badge stays as it is", () => {
  const decision = { verdict: "other", new_label: "{labels} $&", labels: ["a"], issues: ["blurred"] };
  assert.equal(decisionText(decision), "→ {labels} $&  ! blurred");
  assert.equal(decisionText({ ...decision, verdict: "several", labels: ["a", "b"], issues: [] }), "⧉ a, b");
  assert.equal(decisionText(null), "");
});
