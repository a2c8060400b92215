// Building blocks of the page: every text goes in as a text node, so that no name or note is ever markup.

/** @typedef {Node | string | null | undefined} Child */
/** @typedef {{[K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => unknown}} Listeners */
/** @typedef {string | number | boolean | null | undefined} Value */
/**
 * @typedef {{on?: Listeners, data?: Record<string, string>}} Parts
 * @typedef {Parts & {[name: string]: Value | Listeners | Record<string, string>}} Attributes
 */

/**
 * An element with attributes and children. `on` holds listeners; strings become text nodes; nulls are left out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, attributes = {}, ...children) {
  const { on = {}, data = {}, ...rest } = attributes;
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(rest)) setAttribute(node, name, value);
  for (const [event, listener] of Object.entries(on))
    node.addEventListener(event, /** @type {EventListener} */ (listener));
  Object.assign(node.dataset, data);
  node.append(...children.flat().filter(isThere));
  return node;
}

/** @type {(node: HTMLElement, name: string, value: unknown) => void} */
function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "class") node.className = String(value);
  else node.setAttribute(name, value === true ? "" : String(value));
}

/**
 * Whether a value is neither null nor undefined.
 * @template T
 * @param {T} value
 * @returns {value is NonNullable<T>}
 */
export const isThere = (value) => value !== null && value !== undefined;

/** A key as it is drawn on a button or in the list of keys. @param {string} text */
export const keycap = (text) => el("kbd", { class: "hl-key", "aria-hidden": "true" }, text);

/**
 * A button with its key beside its words.
 * @param {string} label
 * @param {string | null} key
 * @param {() => unknown} click
 * @param {Attributes} [attributes]
 */
export const button = (label, key, click, attributes = {}) =>
  el(
    "button",
    { type: "button", class: "hl-button", on: { click }, ...attributes },
    key ? [`${label} `, keycap(key)] : label,
  );

/** A quiet line of text. @param {Child} text */
export const quiet = (text) => el("p", { class: "hl-quiet" }, text);

/** Keeps the focus where it is when a button is pressed with the mouse. @param {Event} event */
export const keepFocus = (event) => event.preventDefault();

/**
 * The nearest ancestor of an event's target that matches, the target included; null where there is none.
 * @param {Event} event
 * @param {string} selector
 * @returns {HTMLElement | null}
 */
export const closest = (event, selector) => (event.target instanceof Element ? event.target.closest(selector) : null);

/**
 * The descendant that matches; it must be there.
 * @param {ParentNode} node
 * @param {string} selector
 * @returns {HTMLElement}
 */
export function find(node, selector) {
  const found = node.querySelector(selector);
  if (!(found instanceof HTMLElement)) throw new Error(`there is no ${selector} here`);
  return found;
}

/** Whether typing belongs to the element: a field, a list, an open dialog. @param {EventTarget | null} node */
export function takesTyping(node) {
  if (!(node instanceof Element)) return false;
  const fields =
    "input, textarea, select, [contenteditable=''], [contenteditable='true'], [role='combobox'], " +
    "[role='listbox'], [role='slider'], [role='spinbutton'], [role='radio'], [role='tab'], [role='menuitem'], " +
    "dialog, iframe";
  return node.closest(fields) !== null;
}
