// The actions on an example: one table that keys, buttons, badges and the help all read. Its verdicts come with the page's
// data (`browser_table`).

/** @import { Decision, Verdict } from "./types.js" */
/** @typedef {{name: string, key: string, title: string, help?: string}} Action */

/** @type {Verdict[]} */
let verdicts = [];

/** Takes the verdicts that the page's data has. @param {Verdict[]} table */
export function setVerdicts(table) {
  verdicts = table;
}

/** The verdict that an action records; undefined where it records none. @param {string} action */
export const verdictOf = (action) => verdicts.find((one) => one.act === action);

const SUGGESTED = { key: "w", name: "suggested", title: "Suggested", help: "the suggested label is right" };
const REMARKS = [
  { key: "x", name: "issue", title: "Issue…", help: "an issue from the list" },
  { key: "f", name: "flag", title: "Flag", help: "flag for discussion, or remove the flag" },
  { key: "n", name: "note", title: "Note…", help: "write a note" },
];

export const UNDO = {
  name: "undo",
  title: "Undo",
  key: "⌫",
  help: "undo the last decision, a bulk decision as one; Ctrl Z does the same",
};

/** The verdicts' actions with "suggested" after the first. @param {Action[]} own @param {Action} suggested */
function withSuggested([first, ...rest], suggested) {
  return first ? [first, suggested, ...rest] : [suggested];
}

/** All actions on one example, in the order of the buttons. @returns {Action[]} */
export function actions() {
  const own = verdicts.map(({ key, act, title, help }) => ({ key, name: act, title, help }));
  return [...withSuggested(own, SUGGESTED), ...REMARKS];
}

/** The actions on many examples at once. @param {string | null} suggestion @returns {Action[]} */
export function bulkActions(suggestion) {
  const own = verdicts.filter(({ bulk }) => bulk).map(({ key, act, bulk }) => ({ key, name: act, title: bulk }));
  return withSuggested(own, { ...SUGGESTED, title: `All → ${suggestion}` });
}

/** A decision in a few words, with its mark. @param {Decision | null | undefined} decision */
export function decisionText(decision) {
  if (!decision) return "";
  const badge = verdicts.find(({ name }) => name === decision.verdict)?.badge ?? "";
  const chosen = (/** @type {string} */ field) =>
    field === "{labels}" ? decision.labels.join(", ") : String(decision.new_label);
  const text = badge.replace(/\{(?:new_label|labels)\}/, chosen);
  const issues = (decision.issues ?? []).map((issue) => `! ${issue}`);
  return [text, ...issues].filter(Boolean).join("  ");
}
