// A two-dimensional cut through an opened vector: the model's decisions beside the data's, points sized by a score.

import { address, ask, button, el } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const SIDE = 340; // pixels of a plot
const LEFT = 54;
const BELOW = 40;
const EVERY = 700; // milliseconds between two looks at a job
// Okabe-Ito, with a shape for each class as well: colour alone carries no meaning.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999"];
const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];

const colour = (at) => COLOURS[at % COLOURS.length];
const shape = (at) => SHAPES[at % SHAPES.length];

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** The panel of an opened vector. `rows`: its columns, the most unusual first; `memory` outlives a redraw. */
export function cutPanel({ id, run, rows, memory }) {
  if (rows.length < 2) return null;
  const names = rows.map((row) => row.column);
  const known = (name, other) => (names.includes(name) ? name : other);
  const [first, second] = rows.slice(0, 2).sort((a, b) => a.place - b.place);
  const x = select("Right", rows, known(memory.x, first.column));
  const y = select("Up", rows, known(memory.y, second.column));
  const stage = el("div", { class: "hl-cutstage" });
  const draw = button("Draw the cut", null, () => begin(), { data: { testid: "draw-cut" } });
  const node = el(
    "section",
    { class: "hl-cut", data: { testid: "cut" } },
    el("div", { class: "hl-cutbar" }, el("strong", {}, "Cut"), x.node, y.node, draw),
    stage,
  );
  const query = () => ({ id, run, x: x.value(), y: y.value(), score: memory.score });
  let turn = 0;

  async function look(again = false) {
    const own = ++turn;
    if (x.value() === y.value()) return say("Choose two different columns.");
    Object.assign(memory, { x: x.value(), y: y.value() });
    try {
      const answer = await ask(address("cut", query()));
      if (own !== turn) return undefined;
      show(answer);
      if (answer.state === "running" && (node.isConnected || !again)) setTimeout(() => own === turn && look(true), EVERY);
    } catch (error) {
      if (own === turn) say(`The cut cannot be read: ${error.message}`);
    }
    return undefined;
  }

  async function begin() {
    if (x.value() === y.value()) return say("Choose two different columns.");
    turn += 1;
    try {
      await ask("/hardlook/cut", JSON.stringify({ id, run, x: x.value(), y: y.value() }));
      return look();
    } catch (error) {
      return say(error.message);
    }
  }

  function show(answer) {
    draw.hidden = answer.state === "ready" || Boolean(answer.refusal);
    draw.disabled = answer.state === "running";
    if (answer.state === "ready") stage.replaceChildren(...figure(answer, (score) => ((memory.score = score), look())));
    else if (answer.state === "running") say(answer.line);
    else {
      const why = answer.state === "failed" ? `The command failed: ${answer.line}` : (answer.refusal ?? "");
      stage.replaceChildren(
        ...[
          why ? el("p", { class: "hl-quiet" }, why) : null,
          why ? el("code", { class: "hl-command" }, answer.command) : null,
        ].filter(Boolean),
      );
    }
  }

  const say = (text) => stage.replaceChildren(el("p", { class: "hl-quiet", "aria-live": "polite" }, text));
  for (const one of [x, y]) one.node.addEventListener("change", () => look());
  look();
  return node;
}

function select(label, rows, chosen) {
  const options = rows.map((row) => {
    const node = el("option", { value: row.column }, row.unit ? `${row.name} (${row.unit})` : row.name);
    node.selected = row.column === chosen;
    return node;
  });
  const field = el("select", { class: "hl-field" }, options);
  field.addEventListener("keydown", (event) => event.stopPropagation()); // letters choose here, and decide nothing
  return { node: el("label", { class: "hl-cutpick" }, `${label} `, field), value: () => field.value };
}

function figure({ cut, sizes, score, scores }, rescore) {
  const by = el(
    "select",
    { class: "hl-field" },
    scores.map(({ address: value, title }) => {
      const node = el("option", { value }, title);
      node.selected = value === score?.address;
      return node;
    }),
  );
  by.addEventListener("keydown", (event) => event.stopPropagation());
  by.addEventListener("change", () => rescore(by.value));
  const radius = sizes.map((size) => 1.8 + 5.5 * (size ?? 0) ** 2);
  const parts = { cut, radius };
  const alike = new Set(cut.decisions).size === 1 && cut.classes[cut.decisions[0]];
  return [
    el(
      "p",
      { class: "hl-quiet" },
      "Left, what the model decides if these two columns alone are changed, and what it predicts for the labelled examples " +
        "nearest to this plane; right, their labels. The ring is this example. Examples differ in the other columns too, so " +
        "the model may decide otherwise than the ground they stand on. Larger = higher score.",
    ),
    alike ? el("p", { class: "hl-quiet" }, `On the whole plane the model decides ${alike}: try other columns.`) : null,
    el("label", { class: "hl-cutpick" }, "Size by ", by),
    el(
      "div",
      { class: "hl-plots" },
      plot("The model decides", parts, cut.points.prediction, true),
      plot("The labels say", parts, cut.points.label, false),
    ),
    legend(cut),
  ].filter(Boolean);
}

function legend(cut) {
  const seen = new Set([...cut.points.label, ...cut.points.prediction, ...cut.decisions.map((at) => cut.classes[at])]);
  const entries = cut.classes
    .map((name, at) => ({ name, at }))
    .filter(({ name }) => seen.has(name))
    .slice(0, 24);
  return el(
    "ul",
    { class: "hl-legend" },
    entries.map(({ name, at }) => {
      const mark = svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, glyph(at, 5));
      return el("li", {}, mark, ` ${name}`);
    }),
  );
}

function plot(title, { cut, radius }, names, ground) {
  const [xs, ys] = [cut.xs, cut.ys];
  const scale = (values, from, to) => (value) =>
    from + ((value - values[0]) / (values.at(-1) - values[0] || 1)) * (to - from);
  const atX = scale(xs, LEFT, LEFT + SIDE);
  const atY = scale(ys, SIDE, 0);
  const inside = (at) =>
    cut.points.x[at] >= xs[0] &&
    cut.points.x[at] <= xs.at(-1) &&
    cut.points.y[at] >= ys[0] &&
    cut.points.y[at] <= ys.at(-1);
  const order = radius.map((_, at) => at).filter(inside);
  order.sort((a, b) => radius[b] - radius[a]); // small ones are drawn over large ones
  const marks = order.map((at) => {
    const name = names[at];
    const facts = `${cut.points.example_id[at]}\nlabel: ${cut.points.label[at]}\nprediction: ${cut.points.prediction[at] ?? "none"}`;
    const mark = glyph(cut.classes.indexOf(name), radius[at]);
    mark.setAttribute("transform", `translate(${atX(cut.points.x[at])} ${atY(cut.points.y[at])})`);
    const said = svg("title", {});
    said.textContent = facts;
    mark.append(said);
    return mark;
  });
  const [cx, cy] = [atX(cut.at[0]), atY(cut.at[1])];
  const picture = svg(
    "svg",
    { viewBox: `0 -8 ${LEFT + SIDE + 14} ${SIDE + BELOW + 8}`, class: "hl-plot", role: "img" },
    ground ? regions(cut) : null,
    svg("rect", { x: LEFT, y: 0, width: SIDE, height: SIDE, class: "hl-frame" }),
    ...marks,
    svg("path", { class: "hl-cross", d: `M${cx} 0V${SIDE}M${LEFT} ${cy}H${LEFT + SIDE}` }),
    svg("circle", { class: "hl-halo", cx, cy, r: 11 }),
    svg("circle", { class: "hl-ring", cx, cy, r: 11 }),
    ...axis(xs, atX, (at) => ({ x: at, y: SIDE + 15, "text-anchor": "middle" })),
    ...axis(ys, atY, (at) => ({ x: LEFT - 5, y: at + 4, "text-anchor": "end" })),
    words({ x: LEFT + SIDE / 2, y: SIDE + 34, "text-anchor": "middle" }, cut.x),
    words({ transform: `translate(11 ${SIDE / 2}) rotate(-90)`, "text-anchor": "middle" }, cut.y),
  );
  picture.setAttribute("aria-label", `${title}: ${cut.x} to the right, ${cut.y} upwards`);
  return el("figure", {}, el("figcaption", {}, title), picture);
}

/** The decisions as one small picture, enlarged without blur. */
function regions({ xs, ys, decisions }) {
  const canvas = el("canvas", { width: xs.length, height: ys.length });
  const pen = canvas.getContext("2d");
  decisions.forEach((decided, at) => {
    pen.fillStyle = colour(decided);
    pen.fillRect(at % xs.length, ys.length - 1 - Math.floor(at / xs.length), 1, 1);
  });
  return svg("image", {
    href: canvas.toDataURL(),
    x: LEFT,
    y: 0,
    width: SIDE,
    height: SIDE,
    preserveAspectRatio: "none",
    class: "hl-ground",
  });
}

function axis(values, at, place) {
  return [values[0], (values[0] + values.at(-1)) / 2, values.at(-1)].map((value) =>
    words(place(at(value)), short(value)),
  );
}

const short = (value) =>
  Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3)
    ? value.toExponential(1)
    : String(Number(value.toPrecision(3)));

function words(attributes, text) {
  const node = svg("text", attributes);
  node.textContent = text;
  return node;
}

/** The mark of a class, of a radius, around the origin. */
function glyph(at, r) {
  const fill = at < 0 ? "transparent" : colour(at);
  const own = { class: "hl-point", fill };
  const kind = at < 0 ? "circle" : shape(at);
  if (kind === "circle") return svg("circle", { ...own, r });
  if (kind === "square") return svg("rect", { ...own, x: -0.9 * r, y: -0.9 * r, width: 1.8 * r, height: 1.8 * r });
  const paths = {
    triangle: `M0 ${-1.2 * r}L${1.1 * r} ${0.8 * r}H${-1.1 * r}Z`,
    diamond: `M0 ${-1.3 * r}L${1.1 * r} 0L0 ${1.3 * r}L${-1.1 * r} 0Z`,
    cross: `M${-0.4 * r} ${-1.1 * r}H${0.4 * r}V${-0.4 * r}H${1.1 * r}V${0.4 * r}H${0.4 * r}V${1.1 * r}H${-0.4 * r}V${0.4 * r}H${-1.1 * r}V${-0.4 * r}H${-0.4 * r}Z`,
  };
  return svg("path", { ...own, d: paths[kind] });
}
