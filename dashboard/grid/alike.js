// Look-alike suspects, settled with one key after all of them were previewed. Above 25 the key asks once more. How long
// each was on screen goes into its evidence: what was not seen for half a second is decided, but not inspected.

import { eventsFor } from "./acts.js";
import { heading, open } from "./dialogs.js";
import { button, el } from "./dom.js";
import { isHeld } from "./keys.js";
import { Sight } from "./sight.js";
import { thumb } from "./thumbs.js";
import { bulkActions, plural } from "./words.js";

const MANY = 25;
const LEAST = 0.5; // seconds on screen, as in scoring.sittings

/** Show the look-alikes of the example in front, and settle those that stay ticked. */
export async function settleAlike(desk) {
  if (desk.hub.readOnly) return desk.toolbar.tell(desk.hub.readOnly);
  const cell = desk.here;
  if (!cell || cell.blind) return desk.toolbar.tell("A blind example is decided alone.");
  const found = await read(desk, cell);
  if (!found) return undefined;
  if (found.error) return desk.toolbar.tell(`Look-alikes cannot be read: ${found.error.message}`);
  if (found.members.length < 2) return desk.toolbar.tell(found.note);
  desk.follow(found.members);
  return preview(desk, cell, found.members);
}

/** Ask for them behind a dialog, so that no key pressed meanwhile decides about the one example in front. */
function read(desk, cell) {
  return open(desk.layer, "hl-reading", "Look-alikes", (finish) => {
    desk.readAlike(cell).then(finish, (error) => finish({ error }));
    const note = el("p", { class: "hl-quiet", tabindex: "-1", autofocus: true }, "Reading …");
    return [heading("Look-alikes", cell.id), note, el("footer", { class: "hl-foot" }, button("Cancel", "Esc", () => finish(null)))];
  });
}

function preview(desk, cell, members) {
  const ticked = new Set(members.map(({ id }) => id));
  const opened = new Set();
  const acts = bulkActions(cell.suggestion);
  const title = `${plural(members.length, "look-alike")}: label ${cell.label}, suggestion ${cell.suggestion}`;
  const tell = el("p", { class: "hl-count", role: "status" });
  const list = el("div", { class: "hl-strip hl-members", tabindex: "-1" });
  const sight = new Sight(list);
  let asked = null; // the act that waits for its confirmation
  let timer;
  const stopped = () => {
    clearInterval(timer);
    sight.end();
  };

  return open(desk.layer, "hl-wide hl-alike", title, (finish) => {
    const nodes = members.map((member) => {
      const node = thumb(desk, member, () => toggle(member), { label: `member ${member.id}` });
      node.setAttribute("aria-pressed", "true");
      node.addEventListener("dblclick", () => show(member));
      node.addEventListener("keydown", (event) => move(event, node, member));
      sight.watch(node, member.id);
      return node;
    });
    nodes[0].autofocus = true;
    list.replaceChildren(...nodes);
    const large = el("div", { class: "hl-large" });

    const draw = () => {
      members.forEach(({ id }, at) => nodes[at].setAttribute("aria-pressed", String(ticked.has(id))));
      const unseen = members.filter(({ id }) => ticked.has(id) && !wasSeen(id)).length;
      const seen = unseen ? `; ${unseen} not on screen for half a second yet` : "; all were on screen";
      tell.textContent = asked
        ? `Settle ${ticked.size} examples at once? The same key once more, or Enter. Any other key goes back.`
        : `${ticked.size} of ${members.length} ticked${seen}`;
      tell.classList.toggle("hl-ask", asked !== null);
    };
    const wasSeen = (id) => opened.has(id) || sight.seconds(id) >= LEAST;
    timer = setInterval(draw, 300);
    const toggle = ({ id }) => {
      if (!ticked.delete(id)) ticked.add(id);
      asked = null;
      draw();
    };
    const show = (member) => {
      opened.add(member.id);
      const image = thumb(desk, member, () => large.replaceChildren(), { label: "close" });
      large.replaceChildren(image);
      draw();
    };
    const move = (event, node, member) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(list), ArrowUp: -columns(list) }[event.key];
      if (step) nodes[nodes.indexOf(node) + step]?.focus();
      else if (event.key === "Enter" && !asked) show(member);
      else if (event.key === " " && !asked) toggle(member);
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    const settle = async (name, value) => {
      if (!ticked.size) return;
      const again = asked && asked.name === name && asked.value === value;
      if (ticked.size > MANY && !again) {
        asked = { name, value };
        return draw();
      }
      const entries = members
        .filter(({ id }) => ticked.has(id))
        .map((member) => ({ cell: member, panel: null, place: members.indexOf(member) }));
      const facts = ({ id }) => ({ seconds: null, opened: opened.has(id), on_screen: sight.seconds(id), bulk: ticked.size });
      const events = await eventsFor(desk, entries, name, value, facts);
      if (!events?.length) return;
      finish(true);
      desk.hub.record(events, desk);
    };
    const pressed = (event) => {
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const name = acts.find((one) => one.key === (key === "/" ? "l" : key))?.name;
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("dialog .hl-choose")) return;
      if (isHeld(event)) return event.preventDefault(); // the same key once more confirms: a held one must not
      if (key === "Enter" && asked) settle(asked.name, asked.value);
      else if (/^[0-9]$/.test(key)) settle("digit", key);
      else if (name) settle(name);
      else {
        if (asked && key !== "Shift") asked = null;
        return draw();
      }
      return event.preventDefault();
    };
    const act = ({ title, key, name }) => button(title, key.toUpperCase(), () => settle(name), { class: "hl-button" });
    const foot = el(
      "footer",
      { class: "hl-foot hl-tools" },
      ...acts.map(act),
      el("span", { class: "hl-gap" }),
      button("Cancel", "Esc", () => finish(null)),
    );
    draw();
    const help = "Space takes one out, Enter shows it large. A key settles all that are ticked, as one act.";
    const body = [heading(title, help), el("div", { class: "hl-alikebody" }, list, large), tell, foot];
    return [el("div", { class: "hl-both", on: { keydown: pressed } }, body)];
  }).then((done) => {
    stopped();
    return done;
  });
}

const columns = (list) => getComputedStyle(list).gridTemplateColumns.split(" ").length;
