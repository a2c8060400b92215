// Window and level: a picture's own values, eight bits or more, drawn with the range that the reader chose.

import { address } from "./dom.js";

/** The values behind a picture: {width, height, channels, values, low, high}; `image` is what the browser decoded. */
export async function readValues(cell, image, deep) {
  if (deep) {
    const reply = await fetch(address("deep", { id: cell.id, v: cell.fingerprint }), {
      headers: { "x-hardlook": "1" },
    });
    if (reply.ok) return deepValues(reply.headers, await reply.arrayBuffer());
  }
  if (image?.decode && !image.complete) await image.decode().catch(() => {}); // the key came before the picture
  return image?.naturalWidth ? shallowValues(image) : null;
}

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

function shallowValues(image) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return { width, height, channels: 4, values: data, low: 0, high: 255, bits: 8 };
}

/** Draw values on a canvas: everything up to level − window/2 black, from level + window/2 on white. */
export function draw(canvas, { width, height, channels, values }, { level, window: range }) {
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const out = picture.data;
  const low = level - range / 2;
  const scale = 255 / Math.max(range, 1e-9);
  if (channels === 1) {
    for (let at = 0, to = 0; at < values.length; at += 1, to += 4) {
      out[to] = out[to + 1] = out[to + 2] = (values[at] - low) * scale; // clamped by the array itself
      out[to + 3] = 255;
    }
  } else {
    for (let at = 0; at < values.length; at += 4) {
      for (let c = 0; c < 3; c += 1) out[at + c] = (values[at + c] - low) * scale;
      out[at + 3] = values[at + 3];
    }
  }
  context.putImageData(picture, 0, 0);
}
