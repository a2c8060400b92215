// Window and level: the values of a picture, eight bits or more, drawn with the range that the reader chose.

/** @import { Cell } from "./types.js" */
import { address } from "./http.js";

/**
 * The values of a picture; channels are 1, or 4 with alpha.
 * @typedef {object} Values
 * @property {number} width
 * @property {number} height
 * @property {number} channels
 * @property {Uint8ClampedArray | Uint16Array | Float32Array} values
 * @property {number} low
 * @property {number} high
 * @property {number} bits
 */

/** What is black and white: level − window/2 and level + window/2. @typedef {{level: number, window: number}} Range */

/**
 * The values of a picture; null where there are none.
 * @param {Cell} cell
 * @param {HTMLElement | null} picture what the browser shows
 * @param {boolean} deep whether the original may have more than eight bits
 * @returns {Promise<Values | null>}
 */
export async function readValues(cell, picture, deep) {
  if (deep) {
    const reply = await fetch(address("deep", { id: cell.id, v: cell.fingerprint }), {
      headers: { "x-hardlook": "1" },
    });
    if (reply.ok) return deepValues(reply.headers, await reply.arrayBuffer());
  }
  if (!(picture instanceof HTMLImageElement)) return null;
  if (!picture.complete) await picture.decode().catch(() => {}); // the key came before the picture
  return picture.naturalWidth ? shallowValues(picture) : null;
}

/** @param {Headers} headers @param {ArrayBuffer} buffer @returns {Values} */
function deepValues(headers, buffer) {
  const kind = headers.get("x-kind");
  const values = kind === "uint16" ? new Uint16Array(buffer) : new Float32Array(buffer);
  const [width, height] = [Number(headers.get("x-width")), Number(headers.get("x-height"))];
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (!(high > low)) high = low + 1;
  return { width, height, channels: 1, values, low, high, bits: kind === "uint16" ? 16 : 32 };
}

/** @param {HTMLImageElement} image @returns {Values} */
function shallowValues(image) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = contextOf(canvas, { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return { width, height, channels: 4, values: data, low: 0, high: 255, bits: 8 };
}

/**
 * The two-dimensional context of a canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
export function contextOf(canvas, settings) {
  const context = canvas.getContext("2d", settings);
  if (!context) throw new Error("this browser draws no canvas");
  return context;
}

/**
 * Draws values on a canvas: all up to level − window/2 black, from level + window/2 on white.
 * @param {HTMLCanvasElement} canvas
 * @param {Values} picture
 * @param {Range} range
 */
export function draw(canvas, { width, height, channels, values }, { level, window: range }) {
  Object.assign(canvas, { width, height });
  const context = contextOf(canvas);
  const image = context.createImageData(width, height);
  const low = level - range / 2;
  stretch(image.data, values, channels, low, 255 / Math.max(range, 1e-9));
  context.putImageData(image, 0, 0);
}

/**
 * Writes values as shades of grey or colours, `low` as 0; the array clamps them to 0 to 255. Alpha stays.
 * @param {Uint8ClampedArray} out
 * @param {ArrayLike<number>} values
 * @param {number} channels
 * @param {number} low
 * @param {number} scale
 */
export function stretch(out, values, channels, low, scale) {
  const shade = (/** @type {number} */ at) => ((values[at] ?? 0) - low) * scale;
  if (channels === 1) {
    for (let at = 0, to = 0; at < values.length; at += 1, to += 4) {
      out[to] = out[to + 1] = out[to + 2] = shade(at);
      out[to + 3] = 255;
    }
  } else {
    for (let at = 0; at < values.length; at += 4) {
      for (let c = 0; c < 3; c += 1) out[at + c] = shade(at + c);
      out[at + 3] = values[at + 3] ?? 255;
    }
  }
}
