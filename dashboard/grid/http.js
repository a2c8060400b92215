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
  try {
    const response = await fetch(url, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body,
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
      ...options,
    });
    if (response.ok) return await response.json();
    throw new Refused(await refusalOf(response), response.status);
  } catch (error) {
    throw error instanceof Refused ? error : new Error(sentenceOf(error), { cause: error });
  }
}

/**
 * The server's own sentence; a proxy's page in its place is no sentence.
 * @param {Response} response
 */
async function refusalOf(response) {
  const text = (await response.text()).trim().slice(0, 500);
  const isSentence = text !== "" && !text.startsWith("<");
  return isSentence ? text : `The server answered with an error (${response.status} ${response.statusText}).`;
}

/**
 * What a browser says of a request that failed, as a sentence.
 * @param {unknown} error
 */
export function sentenceOf(error) {
  if (error instanceof DOMException && error.name === "TimeoutError")
    return `The server has not answered for ${PATIENCE / 1000} s.`;
  if (error instanceof SyntaxError)
    return "The answer was not the server's; a proxy or a sign-in page may have sent it.";
  if (error instanceof TypeError || error instanceof DOMException) return "The server cannot be reached.";
  return reason(error);
}

/** The sentence of whatever was thrown. @param {unknown} error */
export const reason = (error) => (error instanceof Error ? error.message : String(error));
