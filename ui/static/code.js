// Code with colours: plain text at once, coloured when highlight.js is there. Nodes are made from its token tree, never
// from its HTML, so that whatever the code says stays text.

import { h } from "./dom.js";

const LONGEST = 20_000; // characters; longer code stays plain: colouring it would hold the page up
const NAMES = {
  python: ["py", "python", "python3", "pyi"],
  bash: ["sh", "bash", "shell", "zsh", "console"],
  json: ["json", "jsonl", "ndjson"],
  yaml: ["yaml", "yml"],
  markdown: ["md", "markdown"],
  diff: ["diff", "patch"],
  ini: ["ini", "toml", "cfg"],
  javascript: ["js", "javascript", "mjs", "jsx"],
  typescript: ["ts", "typescript", "tsx"],
  xml: ["xml", "html", "svg"],
  css: ["css"],
  sql: ["sql"],
  dockerfile: ["dockerfile"],
  cpp: ["cpp", "c", "cc", "h", "hpp", "cu", "c++"],
  rust: ["rs", "rust"],
  makefile: ["makefile", "mk"],
};
const LANGUAGES = new Map(Object.entries(NAMES).flatMap(([language, names]) => names.map((name) => [name, language])));

/** The language of a fence's word or of a file's name; undefined for one that we cannot colour. */
export const language = (name) => LANGUAGES.get(name.split(/[./\\]/).at(-1).toLowerCase());

/** Text as a <code> element, coloured a little later. */
export function code(text, name = "") {
  const element = h("code", text);
  const known = language(name);
  if (known && text.length <= LONGEST) soon(() => paint(element, text, known));
  return element;
}

let turn = Promise.resolve();
/** One block a task, in order: many at once would be one long task. */
function soon(work) {
  turn = turn.then(work).catch(() => {}); // without its colours code reads as well
  turn = turn.then(() => new Promise((next) => setTimeout(next, 0)));
}

async function paint(element, text, known) {
  const [{ default: core }, { default: grammar }] = await Promise.all([
    import("./vendor/highlight/core.min.js"),
    import(`./vendor/highlight/languages/${known}.min.js`),
  ]);
  if (!core.getLanguage(known)) core.registerLanguage(known, grammar);
  const tokens = core.highlight(text, { language: known, ignoreIllegals: true })._emitter.rootNode;
  const fresh = tokens.children.map(node);
  if (fresh.map((one) => one.textContent ?? one).join("") === text) element.replaceChildren(...fresh);
}

function node(token) {
  if (typeof token === "string") return token;
  return h(`span.hl-${(token.scope ?? "none").split(/[.:]/)[0]}`, token.children.map(node));
}

/** A block of code that can be scrolled with the keyboard. */
export const block = (text, name, label) =>
  h("pre", { tabindex: 0, role: "group", "aria-label": label }, code(text, name));
