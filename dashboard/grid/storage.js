// This browser's storage, or one that keeps nothing where it is forbidden.

const PROBE = "hardlook?";

/** @returns {Storage} */
export function safeStorage() {
  try {
    localStorage.setItem(PROBE, "");
    localStorage.removeItem(PROBE);
    return localStorage;
  } catch {
    return NOTHING;
  }
}

/** @type {Storage} */
const NOTHING = {
  length: 0,
  key: () => null,
  getItem: () => null,
  removeItem: () => {},
  clear: () => {},
  setItem: () => {
    throw new Error("forbidden");
  },
};
