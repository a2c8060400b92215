// What the meeting's screen shares with Python (/hardlook/meeting). For tsc alone: never served or shipped.

export interface MeetingData {
  audit: string;
  /** Whether the visitor may lead. */
  leads: boolean;
  /** The meeting that the page around the screen was drawn for. */
  meeting: number | null;
}

/** What Streamlit gives the component. */
export interface Component {
  data: MeetingData;
  parentElement: HTMLElement;
  setTriggerValue(name: string, value: unknown): void;
}

/** The element that Streamlit gives the screen, with the screen in it. */
export type Home = HTMLElement & { hardlookMeeting?: { component: Component; close(): void } };

/** What can be voted for. */
export interface Answer {
  text: string;
  verdict: string;
  new_label: string | null;
  labels: string[];
}

/** An item of the agenda. */
export interface Item {
  title: string;
  why: string;
  label: string | null;
  examples: { id: string; label: string | null; image: string; text: string | null }[];
  /** The reviewers' decisions. */
  said: { reviewer: string; answer: string }[];
  answers: Answer[];
  /** By answer, its votes. */
  tally: Record<string, number>;
  outcome: string | null;
  precedents: { text: string; meeting: number }[];
}

export interface OpenMeeting {
  open: true;
  /** The mark of this state. */
  known: string;
  number: number;
  /** The place of the item. */
  at: number;
  of: number;
  lead: string;
  present: string[];
  item: Item;
}

export interface ClosedMeeting {
  open: false;
  known: string;
  number: number | null;
}

export type MeetingState = OpenMeeting | ClosedMeeting;
