// Whether something of an example is on screen yet. A box whose picture is on its way shows nothing.

const PICTURE = "img.hl-image";

/** Whether an image has its pixels. @param {HTMLImageElement} image */
export const isDrawn = (image) => image.complete && image.naturalWidth > 0;

/**
 * Calls back once a node shows its example: its picture, or why there is none. At once where it waits for no picture.
 * @param {Element} node
 * @param {() => void} drawn
 */
export function whenDrawn(node, drawn) {
  const [waits] = [...node.querySelectorAll(PICTURE)].filter((one) => one instanceof HTMLImageElement && !isDrawn(one));
  if (!waits) {
    drawn();
    return;
  }
  for (const end of ["load", "error"]) waits.addEventListener(end, drawn, { once: true });
}
