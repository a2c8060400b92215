// Where the arrows up and down lead in panels of rows.

/**
 * The place, counted through all panels, that lies in the same column one row further down or up; past a panel's last
 * row the first row of the next panel that has cells. A short row ends at its last cell. Null where there is no such
 * row.
 * @param {number[]} sizes how many cells each panel has
 * @param {number} columns
 * @param {number} panel
 * @param {number} place within the panel
 * @param {boolean} down
 */
export function verticalMove(sizes, columns, panel, place, down) {
  const step = down ? 1 : -1;
  const size = (/** @type {number} */ at) => sizes[at] ?? 0;
  const lastRow = (/** @type {number} */ at) => Math.floor((size(at) - 1) / columns);
  let to = panel;
  let row = Math.floor(place / columns) + step;
  if (row < 0 || row > lastRow(panel)) {
    to += step;
    while (sizes[to] === 0) to += step;
    if (sizes[to] === undefined) return null;
    row = down ? 0 : lastRow(to);
  }
  const start = sizes.slice(0, to).reduce((sum, n) => sum + n, 0);
  return start + Math.min(row * columns + (place % columns), size(to) - 1);
}
