// Entry: Streamlit calls `mount` for each grid and each time its data changes. All grids of a page share one hub.

/** @import { Component, GridData, SessionData } from "./types.js" */
import { Grid } from "./grid.js";
import { Hub } from "./hub.js";
import { Session } from "./session.js";
import { setVerdicts } from "./verdicts.js";

const HUB = Symbol.for("hardlook.hub");
const REMOUNT = 3000; // a grid that is back within that time was moved by its page, not left by its reader

/**
 * The element that Streamlit gives a grid, with the grid in it.
 * @typedef {HTMLElement & {hardlookGrid?: Grid | Session}} Home
 */

/** The page's hub; a new one where audit or reviewer changed. @param {GridData | SessionData} data */
function hubOf(data) {
  const page = /** @type {{[HUB]?: Hub}} */ (globalThis);
  const hub = page[HUB];
  if (hub && hub.audit === data.audit && hub.reviewer === data.reviewer) {
    hub.update(data);
    return hub;
  }
  hub?.end();
  return (page[HUB] = new Hub(data));
}

/** A new grid or session in its element. @param {Home} home @param {Hub} hub @param {GridData | SessionData} data */
function build(home, hub, data) {
  const memory = hub.memories.get(data.key) ?? {};
  hub.memories.set(data.key, memory);
  const grid = data.kind === "session" ? new Session(home, hub, memory, data) : new Grid(home, hub, memory, data);
  hub.grids.add(grid);
  if (Date.now() - (memory.left ?? 0) < REMOUNT) hub.active = grid;
  return grid;
}

/**
 * The grid that is there already; null, and the grid removed, where it belongs to another hub.
 * @param {Grid | Session | undefined} old
 * @param {Hub} hub
 */
function reusable(old, hub) {
  if (old?.hub === hub) return old;
  old?.remove();
  return null;
}

/** @param {Component<GridData | SessionData>} component */
export default function mount({ data, parentElement, setStateValue, setTriggerValue }) {
  setVerdicts(data.verdicts);
  const hub = hubOf(data);
  /** @type {Home} */
  const home = parentElement;
  const grid = (home.hardlookGrid = reusable(home.hardlookGrid, hub) ?? build(home, hub, data));
  if (data.notify) hub.listeners.set(data.key, (position) => setStateValue("saved", position));
  else hub.listeners.delete(data.key);
  const turn = data.turns ? (/** @type {number} */ by) => setTriggerValue("turn", by) : null;
  if (grid instanceof Session && data.kind === "session") grid.update(data, turn);
  else if (grid instanceof Grid && data.kind !== "session") grid.update(data, turn);
  return () => {
    hub.grids.delete(grid);
    hub.listeners.delete(data.key);
    grid.remove();
    delete home.hardlookGrid;
    if (hub.active === grid) {
      hub.active = null;
      grid.memory.left = Date.now();
    }
    hub.watch();
  };
}
