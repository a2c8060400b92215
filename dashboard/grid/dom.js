// Building blocks of the page: every text goes in as a text node, so that no name or note is ever markup.

/** An element with attributes and children. `on` holds listeners; strings become text nodes; nulls are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(node, name, value);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function set(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "on")
    for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
  else if (name === "data") Object.assign(node.dataset, value);
  else if (name === "class") node.className = value;
  else node.setAttribute(name, value === true ? "" : value);
}

/** A key as it is drawn on a button or in the list of keys. */
const keycap = (text) => el("kbd", { class: "hl-key", "aria-hidden": "true" }, text);

/** A button with its key beside its words. */
export const button = (label, key, click, attributes = {}) =>
  el(
    "button",
    { type: "button", class: "hl-button", on: { click }, ...attributes },
    key ? [`${label} `, keycap(key)] : label,
  );

/** Three significant digits, the way every number of hardlook is written; a dash for "not computed". */
export function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(2);
  return String(Number(value.toPrecision(3)));
}

/** Whether typing belongs to the element: a field, a list, an open dialog. */
export function takesTyping(node) {
  if (!(node instanceof Element)) return false;
  const fields =
    "input, textarea, select, [contenteditable=''], [contenteditable='true'], [role='combobox'], " +
    "[role='listbox'], [role='slider'], [role='spinbutton'], [role='radio'], [role='tab'], [role='menuitem'], dialog, iframe";
  return node.closest(fields) !== null;
}

/** The address of a picture or of an example's facts. */
export function address(what, query) {
  const clean = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  return `/hardlook/${what}?${new URLSearchParams(clean)}`;
}

/** Ask the server; the answer as JSON. A refusal is an Error with `status` and the server's own sentence. */
export async function ask(url, body, options = {}) {
  const headers = { "x-hardlook": "1" };
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(url, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body,
    cache: "no-store",
    signal: AbortSignal.timeout(15000),
    ...options,
  });
  if (response.ok) return response.json();
  const error = new Error((await response.text()).slice(0, 500) || response.statusText);
  error.status = response.status;
  throw error;
}
