// Requests to the server that served the page.

const PATIENCE = 15000; // milliseconds

/** A refusal: the server's own sentence, and its status. */
export class Refused extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * The address of a picture or of an example's facts; parameters that are null are left out.
 * @param {string} what
 * @param {Record<string, string | null | undefined>} query
 */
export function address(what, query) {
  const clean = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    if (value !== null && value !== undefined) clean.append(name, value);
  return `/hardlook/${what}?${clean}`;
}

/**
 * The server's answer to a request as JSON: a GET, or a POST where there is a body. Raises `Refused` for a refusal.
 * @template T what the caller knows the answer to be
 * @param {string} url
 * @param {unknown} [body] sent as JSON
 * @param {RequestInit} [options]
 * @returns {Promise<T>}
 */
export const request = (url, body, options) =>
  sendJson(url, body === undefined ? undefined : JSON.stringify(body), options);

/**
 * The same with a body that is JSON already.
 * @template T
 * @param {string} url
 * @param {string | undefined} body
 * @param {RequestInit} [options]
 * @returns {Promise<T>}
 */
export async function sendJson(url, body, options = {}) {
  /** @type {Record<string, string>} */
  const headers = { "x-hardlook": "1" };
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(url, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body,
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE),
    ...options,
  });
  if (response.ok) return response.json();
  throw new Refused((await response.text()).slice(0, 500) || response.statusText, response.status);
}

/** The sentence of whatever was thrown. @param {unknown} error */
export const reason = (error) => (error instanceof Error ? error.message : String(error));
