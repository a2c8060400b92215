// Tables of what is known about an example: labels, class probabilities, scores, metadata, history.

import { el, figure } from "./dom.js";
import { moment, told } from "./words.js";

export function section(title, body, help) {
  if (!body) return null;
  return el("section", {}, el("h3", {}, title), help ? el("p", { class: "hl-quiet" }, help) : null, body);
}

export function pairs(rows) {
  if (!rows?.length) return null;
  return el(
    "table",
    { class: "hl-pairs" },
    rows.map(([name, value]) =>
      el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value === null ? "–" : String(value))),
    ),
  );
}

/** Label, prediction and suggestion of a cell, and what else it carries. */
export function labels(cell) {
  const { label, prediction, suggestion, suggestion_source: source } = cell;
  const rows = [["Label", label ?? "none"]];
  if (prediction) rows.push(["Prediction", prediction]);
  if (suggestion) rows.push(["Suggestion", source ? `${suggestion} (${source})` : suggestion]);
  if (cell.influence) rows.push(["Influence", cell.influence]);
  if (cell.problem) rows.push(["Problem", cell.problem]);
  return pairs(rows);
}

/** The class probabilities as bars. */
export function bars(probabilities, { label, prediction }) {
  if (!probabilities?.length) return null;
  const role = (name) => (name === label ? "label" : name === prediction ? "prediction" : "plain");
  return el(
    "table",
    { class: "hl-bars" },
    probabilities.map(([name, p]) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", title: name }, name),
        el("td", { class: "hl-track" }, fill(role(name), p)),
        el("td", {}, figure(p)),
      ),
    ),
  );
}

function fill(role, share) {
  const bar = el("span", { class: `hl-fill hl-fill-${role}` });
  bar.style.setProperty("--share", String(share));
  return bar;
}

/** Every score with its value and its percentile. */
export function scores(all) {
  if (!all?.length) return null;
  const row = (score) => {
    const rank = score.percentile === null ? "" : `${figure(score.percentile)} %`;
    const value =
      score.value === null ? "not computed" : `${figure(score.value)}${score.unit ? ` ${score.unit}` : ""}`;
    const help = [score.help, direction(score.suspicious)].filter(Boolean).join(" ");
    const track = score.percentile === null ? "" : fill("plain", score.percentile / 100);
    return el(
      "tr",
      { title: help },
      el("th", { scope: "row" }, score.title),
      el("td", {}, value),
      el("td", { class: "hl-track" }, track),
      el("td", {}, rank),
    );
  };
  return el("table", { class: "hl-bars" }, all.map(row));
}

const direction = (suspicious) =>
  ({
    high: "High is suspicious.",
    low: "Low is suspicious.",
    measured: "Which end is hard is measured per run.",
  })[suspicious] ?? "";

/** What was said so far, newest first; what was taken back is struck through. */
export function history(events) {
  if (!events?.length) return null;
  const said = (event) => {
    const what = {
      flag: "⚑ flagged",
      unflag: "took the flag back",
      undo: "took a step back",
      comment: "✎",
      adjudicate: "adjudicated",
    };
    return [what[event.action] ?? "", told(event), event.note ?? ""].filter(Boolean).join(" ");
  };
  return el(
    "ul",
    { class: "hl-history" },
    events.map((event) =>
      el(
        "li",
        { class: event.stands ? null : "hl-gone" },
        el("strong", {}, event.reviewer),
        ` ${said(event)} `,
        el("time", { datetime: event.created_at }, moment(event.created_at)),
      ),
    ),
  );
}

/** What earlier meetings said about look-alikes. */
export function precedents(told) {
  if (!told?.length) return null;
  const line = (one) => el("li", { dir: "auto" }, one.text, el("small", {}, ` (meeting ${one.meeting})`));
  return el("ul", { class: "hl-history", "data-testid": "precedents" }, told.map(line));
}

/** Own and others' decisions as they are known now. */
export function decisions(shown, glyphs) {
  const line = (who, decision, saving) =>
    el(
      "p",
      { class: "hl-said" },
      el("strong", {}, who),
      ` ${told(decision)}`,
      saving ? el("em", {}, " saving…") : null,
    );
  const lines = shown.others.map((one) => line(one.reviewer, one, false));
  if (shown.decision) lines.unshift(line("You:", shown.decision, shown.saving));
  if (shown.flag) lines.push(el("p", { class: "hl-said" }, `${glyphs.flagged} flagged for discussion`));
  if (!lines.length) lines.push(el("p", { class: "hl-quiet" }, "Nobody has decided yet."));
  return lines;
}
