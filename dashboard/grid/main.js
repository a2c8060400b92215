// Entry: Streamlit calls `mount` for each grid and each time its data changes. All grids of a page share one hub: one
// queue, one board, one undo history, which outlive page changes within the app.

import { Board } from "./board.js";
import { address, ask, takesTyping } from "./dom.js";
import { Grid } from "./grid.js";
import { actOf } from "./keys.js";
import { Pictures } from "./pictures.js";
import { EventQueue } from "./queue.js";
import { Session } from "./session.js";
import { learn, plural, told } from "./words.js";

const HUB = Symbol.for("hardlook.hub");
const NOTIFY_AFTER = 1500;
const SAVED_WITHIN = 8000;
const REMOUNT = 3000; // a grid that is back within that time was moved by its page, not left by its reader

class Hub {
  constructor(data) {
    this.identify(data);
    this.grids = new Set();
    this.memories = new Map(); // grid key → focus and selection
    this.listeners = new Map(); // grid key → tells Streamlit that something was saved
    this.active = null;
    const storage = safeStorage();
    this.queue = new EventQueue({
      audit: data.audit,
      reviewer: data.reviewer,
      storage,
      changed: () => this.drawStatus(),
      answered: (answer, events) => this.answered(answer, events),
    });
    this.board = new Board({
      reviewer: data.reviewer,
      queue: this.queue,
      changed: (ids) => this.repaint(ids),
    });
    this.pictures = new Pictures();
    this.acts = []; // what this page did, newest last; what came before is asked from the log
    document.addEventListener("keydown", (event) => this.strayKey(event));
  }

  identify(data) {
    Object.assign(this, {
      audit: data.audit,
      reviewer: data.reviewer,
      readOnly: data.read_only,
      marks: data.marks,
    });
    this.glyphs = Object.fromEntries(Object.entries(data.marks).map(([role, { mark }]) => [role, mark]));
  }

  /** A key pressed while nothing that takes typing has the focus goes to the grid that had it last. */
  strayKey(event) {
    const at = event.target;
    if (event.defaultPrevented || takesTyping(at)) return;
    const idle = at === document.body || at === document.documentElement;
    const grid = this.active;
    if (!grid?.root.isConnected) return idle ? this.enter(event) : undefined;
    if (grid.root.contains(at) || !(idle || at.closest?.("button, a"))) return;
    const dialogs = [...document.querySelectorAll("dialog[open], [role='dialog']")];
    if (!dialogs.length) grid.key(event);
    else if (idle && dialogs.at(-1) === grid.viewer.dialog) grid.viewer.key(event); // its focus was on what is gone
  }

  /** The first key on a page where no grid was in use yet shows where the focus is, and decides nothing unseen. */
  enter(event) {
    const arrow = event.key.startsWith("Arrow") && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    if (event.altKey || document.querySelector("dialog[open], [role='dialog']") || !(arrow || actOf(event))) return;
    const grid = [...this.grids].find((one) => one.inSight?.());
    if (!grid) return;
    grid.focusCell();
    if (actOf(event)?.[0] === "keys") grid.act("keys");
    else if (!arrow) grid.toolbar.tell(this.readOnly || "The focus is here now; the same key once more decides about this example.");
    event.preventDefault();
  }

  /** Another audit or reviewer is here now: this one asks no more. What it could not send stays in the browser. */
  end() {
    this.board.stop();
    this.queue.stop();
  }

  watch() {
    const ids = [...this.grids].flatMap((grid) =>
      [...grid.cells.map((entry) => entry.cell), ...grid.guests].map((cell) => cell.id),
    );
    this.board.watch([...new Set(ids)]);
  }

  repaint(ids) {
    for (const grid of this.grids) grid.repaint(ids);
  }

  drawStatus() {
    for (const grid of this.grids ?? []) grid.toolbar.drawStatus();
  }

  /** Keep, send and show the events of one act. */
  record(events, grid) {
    const batch = events.length > 1 ? `${this.queue.client}:${this.queue.seq + 1}` : null;
    const before = Object.fromEntries(events.map((event) => [event.example_id, event.before]));
    const opens = events.filter(({ verdict, before }) => verdict && !before?.decision?.verdict).map((one) => one.example_id);
    const kept = this.queue.add(events.map(({ before: _, ...event }) => ({ ...event, batch })));
    const { client, seq, example_id, fingerprint, label } = kept[0];
    this.acts.push({ client, seq, example_id, fingerprint, label, before, opens });
    this.repaint(kept.map((event) => event.example_id));
    const what =
      kept[0].action === "decide"
        ? told(kept[0])
        : { comment: "note", flag: "⚑ flagged", unflag: "flag taken back" }[kept[0].action];
    grid.toolbar.tell(kept.length > 1 ? `${what} · ${plural(kept.length, "example")}` : what);
    grid.recorded?.(events, opens);
  }

  /** Take the last act back; several in a row one after the other, as far back as the log goes. */
  undo(grid) {
    const act = this.acts.pop(); // what was last when the key was pressed, whatever follows while the log is asked
    this.undoing = (this.undoing ?? Promise.resolve()).then(() => this.undoOne(grid, act));
    return this.undoing;
  }

  /** One event is enough: an undo of one member of a bulk act takes all of it back. */
  async undoOne(grid, known) {
    const act = known ?? (await this.lastAct(grid));
    if (!act) return;
    const { client, seq, opens, ...event } = act;
    this.queue.add([{ ...event, action: "undo", undoes: [client, seq] }]);
    const ids = Object.keys(act.before);
    this.repaint(ids);
    grid.toolbar.tell(`undone · ${ids.length === 1 ? ids[0] : plural(ids.length, "example")}`);
    grid.undone?.(ids, opens);
  }

  /** What an earlier page, or another machine, did last: the log knows. What this page has done since the key was pressed
   * is not meant. */
  async lastAct(grid) {
    if (!(await this.queue.empty(SAVED_WITHIN)))
      return grid.toolbar.tell("Undo of what was done before needs everything saved first.");
    try {
      const { act } = await ask(address("last-act", { but: this.queue.client }));
      if (act) return act;
      return grid.toolbar.tell("There is nothing to undo.");
    } catch (error) {
      return grid.toolbar.tell(`Undo needs the log: ${error.message}`);
    }
  }

  answered(answer, events) {
    this.repaint(events.map((event) => event.example_id));
    clearTimeout(this.notice);
    this.notice = setTimeout(() => {
      for (const tell of this.listeners.values()) tell(answer.position);
    }, NOTIFY_AFTER);
  }
}

/** This browser's storage, or one for the life of the page where it is forbidden. */
function safeStorage() {
  try {
    localStorage.setItem("hardlook?", "");
    localStorage.removeItem("hardlook?");
    return localStorage;
  } catch {
    return {
      length: 0,
      key: () => null,
      getItem: () => null,
      removeItem: () => {},
      setItem: () => {
        throw new Error("forbidden");
      },
    };
  }
}

function hubOf(data) {
  const hub = globalThis[HUB];
  if (hub && hub.audit === data.audit && hub.reviewer === data.reviewer) {
    hub.identify(data);
    return hub;
  }
  hub?.end();
  return (globalThis[HUB] = new Hub(data));
}

export default function mount({ data, parentElement, setStateValue, setTriggerValue }) {
  learn(data.verdicts);
  const hub = hubOf(data);
  let grid = parentElement.hardlookGrid;
  if (grid?.hub !== hub) {
    grid?.remove();
    hub.grids.delete(grid);
    const memory = hub.memories.get(data.key) ?? {};
    hub.memories.set(data.key, memory);
    const Desk = data.kind === "session" ? Session : Grid;
    grid = parentElement.hardlookGrid = new Desk(parentElement, hub, memory);
    hub.grids.add(grid);
    if (Date.now() - (memory.left ?? 0) < REMOUNT) hub.active = grid;
  }
  if (data.notify) hub.listeners.set(data.key, (position) => setStateValue("saved", position));
  else hub.listeners.delete(data.key);
  grid.update(data, data.turns ? (by) => setTriggerValue("turn", by) : null);
  return () => {
    hub.grids.delete(grid);
    hub.listeners.delete(data.key);
    grid.remove();
    delete parentElement.hardlookGrid;
    if (hub.active === grid) {
      hub.active = null;
      grid.memory.left = Date.now();
    }
    hub.watch();
  };
}
