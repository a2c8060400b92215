// The two plots of a decision plane as SVG: model decisions and labels, a mark for each example.

import { el, isThere, quiet } from "./dom.js";
import { contextOf } from "./window_level.js";

/**
 * A kept plane (GET /hardlook/cut): `decisions` are the decided classes, a row of xs for every y; `at` is the example.
 * @typedef {object} Plane
 * @property {string} x
 * @property {string} y
 * @property {[number, number]} at
 * @property {number[]} xs
 * @property {number[]} ys
 * @property {number[]} decisions
 * @property {string[]} classes
 * @property {{example_id: string[], x: number[], y: number[], label: string[], prediction: (string | null)[]}} points
 */
/** @typedef {{address: string, title: string}} ScoreName */
/**
 * @typedef {object} ReadyPlane
 * @property {"ready"} state
 * @property {Plane} cut
 * @property {(number | null)[]} sizes
 * @property {ScoreName | null} score
 * @property {ScoreName[]} scores
 * @property {undefined} [refusal]
 */
/**
 * @typedef {object} MissingPlane
 * @property {"none" | "running" | "failed"} state
 * @property {string | null} line the last line of the job
 * @property {string | null} [command]
 * @property {string | null} [refusal]
 */
/** The reply to GET /hardlook/cut. @typedef {ReadyPlane | MissingPlane} PlaneAnswer */

const SVG = "http://www.w3.org/2000/svg";
const SIDE = 340; // pixels of a plot
const LEFT = 54;
const BELOW = 40;
const MOST_CLASSES = 24; // of the legend
// Okabe-Ito, with a shape for each class as well: colour alone carries no meaning.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999"];
const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];

const READING =
  "Left: the model's decision where these two columns alone change, and its predictions for the labelled examples " +
  "nearest to this plane. Right: the labels of the same examples. The ring marks this example. The others differ in " +
  "the remaining columns too, so their prediction may differ from the ground under them. Larger points have higher " +
  "scores.";

/**
 * An element of an SVG.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(Node | null)} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children.filter(isThere));
  return node;
}

/** @param {number} at */
const colour = (at) => COLOURS[at % COLOURS.length] ?? "";

/** The end of some values. @param {number[]} values @returns {[first: number, last: number]} */
const ends = (values) => [values[0] ?? 0, values.at(-1) ?? 0];

/** @param {ReadyPlane} answer @param {(score: string) => void} rescore @returns {HTMLElement[]} */
export function planeFigure({ cut: plane, sizes, score, scores }, rescore) {
  const radius = sizes.map((size) => 1.8 + 5.5 * (size ?? 0) ** 2);
  const only = new Set(plane.decisions).size === 1 ? plane.classes[plane.decisions[0] ?? 0] : undefined;
  return [
    quiet(READING),
    only ? quiet(`On the whole plane the model decides ${only}: try other columns.`) : null,
    el("label", { class: "hl-planepick" }, "Size by ", scorePicker(scores, score, rescore)),
    el(
      "div",
      { class: "hl-plots" },
      plot("Model decisions", plane, pointsOf(plane, plane.points.prediction, radius), regions(plane)),
      plot("Labels", plane, pointsOf(plane, plane.points.label, radius), null),
    ),
    legend(plane),
  ].filter(isThere);
}

/** @type {(scores: ScoreName[], chosen: ScoreName | null, rescore: (score: string) => void) => HTMLElement} */
function scorePicker(scores, chosen, rescore) {
  const options = scores.map(({ address, title }) => {
    const node = el("option", { value: address }, title);
    node.selected = address === chosen?.address;
    return node;
  });
  const field = el("select", { class: "hl-field" }, options);
  field.addEventListener("keydown", (event) => event.stopPropagation());
  field.addEventListener("change", () => rescore(field.value));
  return field;
}

/** The classes on the plane with their marks. @param {Plane} plane */
function legend(plane) {
  const decided = plane.decisions.map((at) => plane.classes[at]);
  const shown = new Set([...plane.points.label, ...plane.points.prediction, ...decided]);
  const entries = plane.classes.map((name, at) => ({ name, at })).filter(({ name }) => shown.has(name));
  return el(
    "ul",
    { class: "hl-legend" },
    entries.slice(0, MOST_CLASSES).map(({ name, at }) => {
      const mark = svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, glyph(at, 5));
      return el("li", {}, mark, ` ${name}`);
    }),
  );
}

/**
 * The points within the plane's ranges, large ones first so that small ones are drawn over them.
 * @param {Plane} plane
 * @param {(string | null)[]} names the class that each point is drawn as
 * @param {number[]} radius
 */
function pointsOf({ points, xs, ys }, names, radius) {
  const [left, right] = ends(xs);
  const [low, high] = ends(ys);
  return points.example_id
    .map((id, at) => ({
      name: names[at] ?? null,
      x: points.x[at] ?? NaN,
      y: points.y[at] ?? NaN,
      radius: radius[at] ?? 0,
      facts: `${id}\nlabel: ${points.label[at]}\nprediction: ${points.prediction[at] ?? "none"}`,
    }))
    .filter(({ x, y }) => x >= left && x <= right && y >= low && y <= high)
    .sort((a, b) => b.radius - a.radius);
}

/**
 * A linear scale from the range of some values to pixels.
 * @type {(values: number[], from: number, to: number) => (value: number) => number}
 */
function scale(values, from, to) {
  const [first, last] = ends(values);
  return (value) => from + ((value - first) / (last - first || 1)) * (to - from);
}

/**
 * @param {string} title
 * @param {Plane} plane
 * @param {ReturnType<typeof pointsOf>} points
 * @param {Node | null} ground
 */
function plot(title, plane, points, ground) {
  const atX = scale(plane.xs, LEFT, LEFT + SIDE);
  const atY = scale(plane.ys, SIDE, 0);
  const marks = points.map(({ name, x, y, radius, facts }) => {
    const mark = glyph(name === null ? -1 : plane.classes.indexOf(name), radius);
    mark.setAttribute("transform", `translate(${atX(x)} ${atY(y)})`);
    mark.append(svg("title", {}, document.createTextNode(facts)));
    return mark;
  });
  const [cx, cy] = [atX(plane.at[0]), atY(plane.at[1])];
  const picture = svg(
    "svg",
    {
      viewBox: `0 -8 ${LEFT + SIDE + 14} ${SIDE + BELOW + 8}`,
      class: "hl-plot",
      role: "img",
      "aria-label": `${title}: ${plane.x} to the right, ${plane.y} upwards`,
    },
    ground,
    svg("rect", { x: LEFT, y: 0, width: SIDE, height: SIDE, class: "hl-frame" }),
    ...marks,
    svg("path", { class: "hl-cross", d: `M${cx} 0V${SIDE}M${LEFT} ${cy}H${LEFT + SIDE}` }),
    svg("circle", { class: "hl-halo", cx, cy, r: 11 }),
    svg("circle", { class: "hl-ring", cx, cy, r: 11 }),
    ...axis(plane.xs, atX, (at) => ({ x: at, y: SIDE + 15, "text-anchor": "middle" })),
    ...axis(plane.ys, atY, (at) => ({ x: LEFT - 5, y: at + 4, "text-anchor": "end" })),
    words({ x: LEFT + SIDE / 2, y: SIDE + 34, "text-anchor": "middle" }, plane.x),
    words({ transform: `translate(11 ${SIDE / 2}) rotate(-90)`, "text-anchor": "middle" }, plane.y),
  );
  return el("figure", {}, el("figcaption", {}, title), picture);
}

/** The decisions as one small picture, enlarged without blur. @param {Plane} plane */
function regions({ xs, ys, decisions }) {
  const canvas = el("canvas", { width: xs.length, height: ys.length });
  const pen = contextOf(canvas);
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

/**
 * Numbers at both ends and the middle of an axis.
 * @param {number[]} values
 * @param {(value: number) => number} at
 * @param {(at: number) => Record<string, string | number>} place
 */
function axis(values, at, place) {
  const [first, last] = ends(values);
  return [first, (first + last) / 2, last].map((value) => words(place(at(value)), short(value)));
}

/** @param {number} value */
const short = (value) =>
  Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3)
    ? value.toExponential(1)
    : String(Number(value.toPrecision(3)));

/** @param {Record<string, string | number>} attributes @param {string} text */
const words = (attributes, text) => svg("text", attributes, document.createTextNode(text));

/** The mark of a class around the origin, transparent for no class (−1). @param {number} at @param {number} r */
function glyph(at, r) {
  const own = { class: "hl-point", fill: at < 0 ? "transparent" : colour(at) };
  const kind = at < 0 ? "circle" : SHAPES[at % SHAPES.length];
  if (kind === "circle") return svg("circle", { ...own, r });
  if (kind === "square") return svg("rect", { ...own, x: -0.9 * r, y: -0.9 * r, width: 1.8 * r, height: 1.8 * r });
  if (kind === "triangle") return svg("path", { ...own, d: `M0 ${-1.2 * r}L${1.1 * r} ${0.8 * r}H${-1.1 * r}Z` });
  if (kind === "diamond") return svg("path", { ...own, d: `M0 ${-1.3 * r}L${1.1 * r} 0L0 ${1.3 * r}L${-1.1 * r} 0Z` });
  const [thin, wide] = [0.4 * r, 1.1 * r];
  const left = `M${-thin} ${-wide}H${thin}V${-thin}H${wide}V${thin}H${thin}`;
  return svg("path", { ...own, d: `${left}V${wide}H${-thin}V${thin}H${-wide}V${-thin}H${-thin}Z` });
}
