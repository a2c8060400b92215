// What the grid's scripts share with Python and with each other, one type each. For tsc alone: never served or shipped.

import type { DecisionStore } from "./decision_store.js";
import type { ExampleDialog } from "./example_dialog.js";
import type { EventQueue } from "./event_queue.js";
import type { HeldAction } from "./held_action.js";
import type { Hub } from "./hub.js";
import type { Toolbar } from "./toolbar.js";
import type { Viewport } from "./viewport.js";

// -- from Python ------------------------------------------------------------------------------------------------------

/** A row of a vector in a cell; older audits keep [name, value]. */
export interface CellRow {
  name: string;
  value: string;
  unit?: string | null;
  z?: string;
  odd?: boolean;
}

/** One example as a cell shows it (`make_cells`). */
export interface Cell {
  id: string;
  fingerprint: string | null;
  label: string | null;
  prediction: string | null;
  wrong?: boolean;
  score: string | null;
  score_help: string | null;
  suggestion: string | null;
  suggestion_source: string | null;
  /** Why there is no picture. */
  problem: string | null;
  /** Goes into each event about the example. */
  evidence?: Record<string, unknown>;
  text?: string | null;
  rows?: (CellRow | [string, unknown])[] | null;
  /** Model output is hidden until the first verdict. */
  blind?: boolean;
  group?: string | null;
  /** It is decided, and to review again. */
  again?: boolean;
  influence?: string | null;
  /** A figure on top of a thumbnail's label, such as a distance. */
  top?: string | null;
  top_help?: string | null;
}

export interface Panel {
  title: string | null;
  note: string | null;
  cells: Cell[];
}

/** A meaning with its mark and its word (`ROLES`). */
export interface Role {
  colour: string;
  on: string;
  mark: string;
  word: string;
}

export type RoleName = "label" | "prediction" | "wrong" | "decided" | "flagged";
export type Marks = Record<RoleName, Role>;
export type Glyphs = Record<string, string>;

/** One row of the table of verdicts (`browser_table`). */
export interface Verdict {
  name: string;
  act: string;
  key: string;
  title: string;
  help: string;
  bulk: string;
  badge: string;
  takes: "new_label" | "labels" | null;
  true: "label" | "new_label" | "labels" | null;
}

/** The data of every grid and session (`show_component`). */
interface SharedData {
  key: string;
  turns: boolean;
  notify: boolean;
  panels: Panel[];
  classes: string[];
  issues: string[];
  run: string | null;
  guidelines: string | null;
  audit: string;
  reviewer: string | null;
  /** Why the visitor may only look; null for those who decide. */
  read_only: string | null;
  marks: Marks;
  verdicts: Verdict[];
}

export interface GridData extends SharedData {
  kind?: undefined;
  columns: number;
  layout: string;
  /** Ids of the next page, whose thumbnails are loaded ahead. */
  ahead: string[];
}

/** A part of a session's queue (`review_session`). */
export interface SessionData extends SharedData {
  kind: "session";
  /** The place of the window's first cell in the queue. */
  first: number;
  /** The length of the queue. */
  of: number;
  /** The id of the current example. */
  at: string;
  reason: string;
  left: number | null;
  /** What others have meanwhile decided is passed over. */
  skips: boolean;
  /** Several people review here: an example is shown once it is kept from the others. */
  waits: boolean;
}

/** What Streamlit gives a component. */
export interface Component<Data> {
  data: Data;
  parentElement: HTMLElement;
  setStateValue(name: string, value: unknown): void;
  setTriggerValue(name: string, value: unknown): void;
}

// -- decisions --------------------------------------------------------------------------------------------------------

/** A decision as GET /hardlook/decisions gives it. */
export interface Decision {
  verdict: string | null;
  new_label: string | null;
  labels: string[];
  issues: string[];
}

export interface OthersDecision extends Decision {
  reviewer: string;
}

/** The log's state of one example. */
export interface ExampleState {
  decisions: OthersDecision[];
  /** Who flagged it. */
  flags: string[];
  notes: number;
}

/** The reviewer's own state of one example. */
export interface OwnState {
  decision: Decision | null;
  flag: boolean;
  notes: number;
}

/** What is drawn for one example: the log's state with unsaved events applied. */
export interface Shown extends OwnState {
  saving: boolean;
  others: OthersDecision[];
  flaggedBy: string[];
}

export interface StatesAnswer {
  position: number;
  examples: Record<string, ExampleState>;
  again?: boolean;
}

export type EventAction = "decide" | "flag" | "unflag" | "comment" | "undo";

/** What an action changes about one example; what it leaves out stays as it is. */
export interface Change {
  action: EventAction;
  verdict?: string | null;
  new_label?: string | null;
  labels?: string[];
  issues?: string[];
  note?: string;
}

/** An event before the queue has numbered it (POST /hardlook/events). */
export interface NewEvent extends Change {
  example_id: string;
  fingerprint: string | null;
  label: string | null;
  evidence?: Record<string, unknown>;
  seconds?: number | null;
  batch?: string | null;
  undoes?: [string, number];
  /** Stays in the browser: by example, the state that an undo restores. */
  before?: Record<string, OwnState>;
}

/** An event as the grid records it, with the reviewer's state before it. */
export interface RecordedEvent extends Omit<NewEvent, "before"> {
  before: OwnState;
}

/** The name of an event: a client is one life of one page. */
export interface EventKey {
  client: string;
  seq: number;
}

/** An event as the browser keeps it until the log acknowledges it. */
export interface KeptEvent extends NewEvent, EventKey {
  time: number;
  by: string | null;
}

export interface RefusedEvent extends KeptEvent {
  reason: string;
}

/** The reply to POST /hardlook/events. */
export interface EventsAnswer {
  saved: EventKey[];
  refused: (EventKey & { reason: string })[];
  position: number;
}

/** What an undo takes back (GET /hardlook/last-act). */
export interface Act extends EventKey {
  example_id: string;
  fingerprint: string | null;
  label: string | null;
  before: Record<string, OwnState>;
  /** The examples that are undecided again after the undo. */
  opens: string[];
}

// -- facts ------------------------------------------------------------------------------------------------------------

export interface Score {
  name: string;
  title: string;
  help: string;
  unit: string | null;
  suspicious: string;
  value: number | null;
  percentile: number | null;
}

export interface HistoryEvent extends Decision {
  action: string;
  reviewer: string;
  note: string | null;
  created_at: string;
  /** Whether the event still holds. */
  stands: boolean;
}

export interface Precedent {
  text: string;
  meeting: number;
}

export type Pair = [string, string | null];
export type Probability = [string, number];

/** A text cut at its tokens. */
export interface TextContent {
  kind: "text";
  pieces: [string, number | null][];
  left: number;
  map: boolean;
  spans: boolean;
  blind?: boolean;
}

/** A column of an opened vector. */
export interface Column extends CellRow {
  column: string;
  place: number;
  vog?: number;
}

export interface VectorContent {
  kind: "vector";
  rows: Column[];
  left: number;
  compared: string;
  map: boolean;
  blind?: boolean;
}

export type Content = TextContent | VectorContent;

/** The facts of an opened example (GET /hardlook/example). */
export interface ExampleFacts {
  /** Why model output is hidden; null where it is shown. */
  hidden: string | null;
  content: Content | null;
  scores: Score[];
  probabilities: Probability[];
  probabilities_help: string;
  metadata: Pair[];
  history: HistoryEvent[];
  precedents: Precedent[];
}

/** The facts beside a session's example (POST /hardlook/dossiers). */
export interface SessionFacts {
  hidden: string | null;
  split: string;
  opinion: Pick<Cell, "prediction" | "suggestion" | "suggestion_source">;
  content: Content | null;
  /** Whether the original has more than eight bits. */
  deep: boolean;
  scores: Score[];
  probabilities: Probability[];
  neighbours: Cell[];
  metadata: Pair[];
  history: HistoryEvent[];
  precedents: Precedent[];
}

/** Guidelines, gold and typical examples of a class (GET /hardlook/class). */
export interface ClassReference {
  name: string;
  text: string;
  gold: Cell[];
  typical: Cell[];
}

/** The reply to POST /hardlook/influence. */
export interface InfluenceAnswer {
  opponents: Cell[];
  proponents: Cell[];
  /** How many of the examples have an embedding. */
  used: number;
  note: string | null;
  command: string | null;
}

/** The reply to GET /hardlook/alike. */
export interface LookalikesAnswer {
  members: Cell[];
  note: string | null;
}

// -- in the browser ---------------------------------------------------------------------------------------------------

/** What an action is about: a cell and where it stands. */
export interface Target {
  cell: Cell;
  /** The number of its panel; null for a cell of a dialog. */
  panel: number | null;
  place: number;
}

/** How an example was looked at, for the evidence of an event. */
export interface Viewing {
  seconds: number | null;
  opened: boolean;
  on_screen: number;
  map?: boolean;
  bulk?: number;
}

/** What outlives a remount of a grid. */
export interface Memory {
  focus?: number;
  id?: string;
  selected?: string[];
  focused?: boolean;
  /** When the grid left the page, in milliseconds. */
  left?: number;
}

/** What a grid and a session offer to their parts. */
export interface Host {
  hub: Hub;
  queue: EventQueue;
  decisions: DecisionStore;
  memory: Memory;
  data: SharedData & { kind?: "session" };
  /** The class names. */
  labels: string[];
  cells: Target[];
  focus: number;
  /** When the focus came to the current example, in milliseconds. */
  since: number;
  selected: Set<string>;
  /** Examples that are shown outside the panels. */
  guests: Cell[];
  root: HTMLElement;
  layer: HTMLElement;
  toolbar: Toolbar;
  exampleDialog: ExampleDialog;
  viewport?: Viewport;

  remove(): void;
  key(event: KeyboardEvent): void;
  actionKey(event: KeyboardEvent): boolean;
  act(name: string, value?: string): unknown;
  targets(): Target[];
  onScreen(id: string): number;
  held: HeldAction;
  /** What is not on screen yet, so that keys wait for it. */
  readonly missing: string | null;
  follow(cells: Cell[]): void;
  openGuest(cell: Cell, cells: Cell[]): void;
  moveTo(at: number, options?: { reveal?: boolean }): boolean;
  dialogClosed(): void;
  repaint(ids?: string[] | null): void;

  inView?(): boolean;
  focusCell?(): void;
  isDeep?(cell: Cell): boolean;
  recorded?(events: RecordedEvent[], opens: string[]): void;
  undone?(ids: string[], opens: string[]): void;
}
