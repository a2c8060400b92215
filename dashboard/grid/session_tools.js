// The buttons under a session's picture, made once: one that is made anew loses the focus.

/** @import { Session } from "./session.js" */
import { compareNext, toggleCompare } from "./comparison.js";
import { el, isThere, keycap, keepFocus } from "./dom.js";

/** @typedef {{words: HTMLElement, node: HTMLElement, isOn: () => unknown}} Tool */

/** @type {(title: string, key: string, isOn: () => unknown, click: () => unknown) => Tool} */
function makeTool(title, key, isOn, click) {
  const words = el("span", {}, title);
  const attributes = { type: "button", class: "hl-button", on: { click, mousedown: keepFocus } };
  return { words, isOn, node: el("button", attributes, words, " ", keycap(key)) };
}

const never = () => false;

export class SessionTools {
  /** @param {Session} session */
  constructor(session) {
    const { viewport } = session;
    this.viewport = viewport;
    this.zoom = makeTool(
      "Zoom",
      "Z",
      () => viewport.view.scale !== 1,
      () => viewport.toggleSize(),
    );
    this.tools = [
      this.zoom,
      makeTool(
        "VoG map",
        "M",
        () => viewport.map,
        () => viewport.toggleMap(),
      ),
      makeTool(
        "Window",
        "V",
        () => viewport.window,
        () => viewport.toggleWindow(),
      ),
      makeTool(
        "Compare",
        "T",
        () => viewport.second,
        () => toggleCompare(session),
      ),
      makeTool("Gold", "G", never, () => compareNext(session, 1, "gold")),
      session.hub.readOnly ? null : makeTool("Look-alikes", "A", never, () => session.act("lookalikes")),
      makeTool("Open", "Enter", never, () => session.open()),
      makeTool("Skip", "Space", never, () => session.advance()),
    ].filter(isThere);
    const nodes = this.tools.map(({ node }) => node);
    this.node = el("div", { class: "hl-viewtools", role: "toolbar", "aria-label": "Picture" }, nodes);
  }

  draw() {
    const { scale } = this.viewport.view;
    this.zoom.words.textContent = scale === 1 ? "Zoom" : `Zoom ×${Number(scale.toPrecision(2))}`;
    for (const { node, isOn } of this.tools) node.setAttribute("aria-pressed", String(Boolean(isOn())));
  }
}
