// The rules of the dashboard's JavaScript. Names that do not exist are found by tsc, so `no-undef` is off.

import js from "@eslint/js";

const MARKUP = "Names and notes are untrusted text: build nodes with el(), which writes text as text.";
const markup = ["innerHTML", "outerHTML", "insertAdjacentHTML", "setHTMLUnsafe", "srcdoc", "createContextualFragment"];

export default [
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    languageOptions: { ecmaVersion: 2023, sourceType: "module" },
    rules: {
      "no-undef": "off",
      "array-callback-return": "error",
      curly: ["error", "multi-or-nest"],
      "default-param-last": "error",
      eqeqeq: "error",
      "max-lines-per-function": ["error", { max: 55, skipBlankLines: true, skipComments: true }],
      "no-console": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-script-url": "error",
      "no-shadow": "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_", ignoreRestSiblings: true }],
      "no-useless-return": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-promise-reject-errors": "error",
      "require-atomic-updates": "error",
      "no-restricted-properties": [
        "error",
        ...markup.map((property) => ({ property, message: MARKUP })),
        { object: "document", property: "write", message: MARKUP },
        { object: "document", property: "writeln", message: MARKUP },
      ],
      // Types have no exceptions; a rule's exception needs its reason (tests/test_gate.py).
      "no-warning-comments": [
        "error",
        { terms: ["@ts-ignore", "@ts-nocheck", "@ts-expect-error"], location: "anywhere" },
      ],
      // What the window has under a common name, so that a misspelt variable would read it.
      "no-restricted-globals": ["error", "event", "name", "status", "confirm", "alert", "prompt"],
    },
  },
];
