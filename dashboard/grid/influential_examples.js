// The most influential training examples of some examples: opponents and proponents as two strips of thumbnails.

/** @import { Cell, Host, InfluenceAnswer } from "./types.js" */
import { heading, open } from "./dialogs.js";
import { button, el, quiet } from "./dom.js";
import { plural } from "./format.js";
import { address, reason, request } from "./http.js";
import { thumb } from "./thumbnails.js";

const TITLE = "Influential training examples";

/** @type {{name: "opponents" | "proponents", title: string, help: string, none: string}[]} */
const STRIPS = [
  {
    name: "opponents",
    title: "Strongest opponents in training",
    help: "Negative influence: training on them, as labelled, raises the loss here. Their labels deserve a look.",
    none: "No training example has a negative influence.",
  },
  {
    name: "proponents",
    title: "Strongest proponents in training",
    help: "Positive influence: training on them, as labelled, lowers the loss here.",
    none: "No training example has a positive influence.",
  },
];

/**
 * The training examples of the strongest summed influence on some examples.
 * @type {(host: Host, ids: string[]) => Promise<InfluenceAnswer>}
 */
export const readInfluence = (host, ids) => request(address("influence", { run: host.data.run }), { ids });

/** What is missing, and the command that computes it. @param {InfluenceAnswer} answer */
export const notes = ({ note, command }) => [
  ...(note ? [quiet(note)] : []),
  ...(command ? [el("code", { class: "hl-command" }, command)] : []),
];

/**
 * Both strips.
 * @param {Host} host
 * @param {InfluenceAnswer} answer
 * @param {(cell: Cell, cells: Cell[]) => unknown} pick called with the thumbnail that was clicked and its strip
 * @returns {HTMLElement[]}
 */
export function strips(host, answer, pick) {
  if (!answer.used) return notes(answer);
  const drawn = STRIPS.map(({ name, title, help, none }) => {
    const cells = answer[name];
    const thumbs = cells.map((cell) =>
      thumb(host, cell, () => pick(cell, cells), { label: `open ${cell.id}, influence` }),
    );
    return strip(title, cells.length ? help : none, thumbs, name);
  });
  return [...notes(answer), ...drawn];
}

/**
 * Thumbnails in a row under a title.
 * @type {(title: string, help: string | null, thumbs: HTMLElement[], testid: string) => HTMLElement}
 */
export const strip = (title, help, thumbs, testid) =>
  el(
    "section",
    { class: "hl-examples", data: { testid } },
    el("h3", {}, title),
    help ? quiet(help) : null,
    thumbs.length ? el("div", { class: "hl-strip" }, thumbs) : null,
  );

/**
 * Shows the influential examples of the targets; one that is picked is opened, and may be decided there.
 * @param {Host} host
 */
export async function showInfluentialExamples(host) {
  if (host.exampleDialog.isOpen) return host.exampleDialog.revealInfluence();
  const ids = host.targets().map(({ cell }) => cell.id);
  if (!ids.length) return host.toolbar.showMessage("No example is in focus.");
  const subject = ids.length === 1 ? ids[0] : `${plural(ids.length, "example")}, their influence summed`;
  const body = el("div", { class: "hl-both" }, quiet("Reading …"));
  /** @typedef {{cell: Cell, cells: Cell[]}} Picked */
  let pick = (/** @type {Picked} */ _picked) => {};
  /** @type {Promise<Picked | null>} */
  const closed = open(host.layer, "hl-wide", TITLE, (finish) => {
    pick = finish;
    const close = button("Close", "Esc", () => finish(null), { autofocus: true });
    return [heading(TITLE, subject), body, el("footer", { class: "hl-foot" }, close)];
  });
  try {
    const answer = await readInfluence(host, ids);
    host.follow([...answer.opponents, ...answer.proponents]);
    body.replaceChildren(...strips(host, answer, (cell, cells) => pick({ cell, cells })));
  } catch (error) {
    body.replaceChildren(quiet(`Influence cannot be read: ${reason(error)}`));
  }
  const picked = await closed;
  if (picked) host.openGuest(picked.cell, picked.cells);
}
