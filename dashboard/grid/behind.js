// Who in training is behind some examples: the strongest opponents and proponents as two strips of thumbnails.

import { heading, open } from "./dialogs.js";
import { address, ask, button, el } from "./dom.js";
import { thumb } from "./thumbs.js";
import { plural } from "./words.js";

const STRIPS = [
  {
    name: "opponents",
    title: "Strongest opponents in training",
    help: "Negative influence: training on them, as they are labelled, raises the loss here. Their labels deserve a look.",
    none: "No training example harms it.",
  },
  {
    name: "proponents",
    title: "Strongest proponents in training",
    help: "Positive influence: training on them, as they are labelled, lowers the loss here.",
    none: "No training example helps it.",
  },
];

/** Ask the server who is behind some examples. → {opponents, proponents: cells, used, note, command} */
export const readBehind = (grid, ids) =>
  ask(address("influence", { run: grid.data.run }), JSON.stringify({ ids }));

/** Both strips. `pick(cell, cells)` is called with the thumbnail that was clicked and the strip that it is in. */
export function strips(grid, answer, pick) {
  const parts = [];
  if (answer.note) parts.push(el("p", { class: "hl-quiet" }, answer.note));
  if (answer.command) parts.push(el("code", { class: "hl-command" }, answer.command));
  if (!answer.used) return parts;
  return parts.concat(STRIPS.map((one) => strip(grid, one, answer[one.name], pick)));
}

function strip(grid, { name, title, help, none }, cells, pick) {
  const thumbs = cells.map((cell) => thumb(grid, cell, () => pick(cell, cells), { label: `open ${cell.id}, influence` }));
  return el(
    "section",
    { class: "hl-behind", data: { testid: name } },
    el("h3", {}, title),
    el("p", { class: "hl-quiet" }, cells.length ? help : none),
    cells.length ? el("div", { class: "hl-strip" }, thumbs) : null,
  );
}

/** Show who is behind the selected examples; one that is picked is opened, and may be decided there. */
export async function showBehind(grid) {
  if (grid.viewer.isOpen) return grid.viewer.revealBehind();
  const ids = grid.targets().map(({ cell }) => cell.id);
  if (!ids.length) return grid.toolbar.tell("No example is in focus.");
  const subject = ids.length === 1 ? ids[0] : `${plural(ids.length, "example")}, their influence summed`;
  const body = el("div", { class: "hl-both" }, el("p", { class: "hl-quiet" }, "Reading …"));
  let pick;
  const closed = open(grid.layer, "hl-wide", "Who is behind them", (finish) => {
    pick = (cell, cells) => finish({ cell, cells });
    const close = button("Close", "Esc", () => finish(null), { autofocus: true });
    return [heading("Who is behind them", subject), body, el("footer", { class: "hl-foot" }, close)];
  });
  try {
    const answer = await readBehind(grid, ids);
    grid.follow([...answer.opponents, ...answer.proponents]);
    body.replaceChildren(...strips(grid, answer, pick));
  } catch (error) {
    body.replaceChildren(el("p", { class: "hl-quiet" }, `This cannot be read: ${error.message}`));
  }
  const picked = await closed;
  if (picked) grid.openGuest(picked.cell, picked.cells);
  return undefined;
}
