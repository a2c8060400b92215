// Tables of the facts about an example: labels, class probabilities, scores, metadata, history.

/** @import { Cell, Decision, HistoryEvent, Pair, Precedent, Probability, Score, Shown } from "./types.js" */
/** @import { Glyphs } from "./types.js" */
import { el, quiet } from "./dom.js";
import { figure, moment } from "./format.js";
import { decisionText } from "./verdicts.js";

/**
 * A table under its title; null where there is none.
 * @type {(title: string, body: HTMLElement | null, help?: string) => HTMLElement | null}
 */
export function section(title, body, help) {
  if (!body) return null;
  return el("section", {}, el("h3", {}, title), help ? quiet(help) : null, body);
}

/** @param {Pair[]} rows */
export function pairs(rows) {
  if (!rows.length) return null;
  const line = (/** @type {Pair} */ [name, value]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value ?? "–"));
  return el("table", { class: "hl-pairs" }, rows.map(line));
}

/** Label, prediction and suggestion of a cell, and what else it carries. @param {Cell} cell */
export function labels(cell) {
  const { label, prediction, suggestion, suggestion_source: source } = cell;
  /** @type {Pair[]} */
  const rows = [["Label", label ?? "none"]];
  if (prediction) rows.push(["Prediction", prediction]);
  if (suggestion) rows.push(["Suggestion", source ? `${suggestion} (${source})` : suggestion]);
  if (cell.influence) rows.push(["Influence", cell.influence]);
  if (cell.problem) rows.push(["Problem", cell.problem]);
  return pairs(rows);
}

/**
 * The class probabilities as bars.
 * @param {Probability[]} probabilities
 * @param {Pick<Cell, "label" | "prediction">} cell
 */
export function bars(probabilities, { label, prediction }) {
  if (!probabilities.length) return null;
  const role = (/** @type {string} */ name) =>
    name === label ? "label" : name === prediction ? "prediction" : "plain";
  const line = (/** @type {Probability} */ [name, p]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", title: name }, name),
      el("td", { class: "hl-track" }, fill(role(name), p)),
      el("td", {}, figure(p)),
    );
  return el("table", { class: "hl-bars" }, probabilities.map(line));
}

/** @param {string} role @param {number} share */
function fill(role, share) {
  const bar = el("span", { class: `hl-fill hl-fill-${role}` });
  bar.style.setProperty("--share", String(share));
  return bar;
}

/** Every score with its value and its percentile. @param {Score[]} all */
export function scores(all) {
  if (!all.length) return null;
  const row = (/** @type {Score} */ score) => {
    const { percentile, value, unit } = score;
    return el(
      "tr",
      { title: [score.help, direction(score.suspicious)].filter(Boolean).join(" ") },
      el("th", { scope: "row" }, score.title),
      el("td", {}, value === null ? "not computed" : `${figure(value)}${unit ? ` ${unit}` : ""}`),
      el("td", { class: "hl-track" }, percentile === null ? "" : fill("plain", percentile / 100)),
      el("td", {}, percentile === null ? "" : `${figure(percentile)} %`),
    );
  };
  return el("table", { class: "hl-bars" }, all.map(row));
}

/** @param {string} suspicious */
const direction = (suspicious) =>
  ({
    high: "High is suspicious.",
    low: "Low is suspicious.",
    measured: "Which end is hard is measured per run.",
  })[suspicious] ?? "";

/** An event of the history in a few words. @param {HistoryEvent} event */
function eventText(event) {
  const what = {
    flag: "⚑ flagged",
    unflag: "removed the flag",
    undo: "undid a step",
    comment: "✎",
    adjudicate: "adjudicated",
  }[event.action];
  return [what ?? "", decisionText(event), event.note ?? ""].filter(Boolean).join(" ");
}

/** The events so far, newest first; those that were undone are struck through. @param {HistoryEvent[]} events */
export function history(events) {
  if (!events.length) return null;
  const line = (/** @type {HistoryEvent} */ event) =>
    el(
      "li",
      { class: event.stands ? null : "hl-gone" },
      el("strong", {}, event.reviewer),
      ` ${eventText(event)} `,
      el("time", { datetime: event.created_at }, moment(event.created_at)),
    );
  return el("ul", { class: "hl-history" }, events.map(line));
}

/** The precedents that earlier meetings set for look-alikes. @param {Precedent[]} found */
export function precedents(found) {
  if (!found.length) return null;
  const line = (/** @type {Precedent} */ { text, meeting }) =>
    el("li", { dir: "auto" }, text, el("small", {}, ` (meeting ${meeting})`));
  return el("ul", { class: "hl-history", "data-testid": "precedents" }, found.map(line));
}

/** Own and others' decisions as they are known now. @param {Shown} shown @param {Glyphs} glyphs */
export function decisionLines(shown, glyphs) {
  /** @type {(who: string, decision: Decision, saving: boolean) => HTMLElement} */
  const line = (who, decision, saving) =>
    el(
      "p",
      { class: "hl-decision" },
      el("strong", {}, who),
      ` ${decisionText(decision)}`,
      saving ? el("em", {}, " saving…") : null,
    );
  const lines = shown.others.map((one) => line(one.reviewer, one, false));
  if (shown.decision) lines.unshift(line("You:", shown.decision, shown.saving));
  if (shown.flag) lines.push(el("p", { class: "hl-decision" }, `${glyphs.flagged} flagged for discussion`));
  if (!lines.length) lines.push(quiet("Nobody has decided yet."));
  return lines;
}
