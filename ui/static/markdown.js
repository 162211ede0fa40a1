// A small part of Markdown as elements: headings, paragraphs, lists, quotes, tables, code, formulas, bold, italics, links. No
// HTML passes: everything becomes text nodes, so markup in what a model or a dataset wrote shows as text. No image is loaded.

import { code } from "./code.js";
import { h, tabular } from "./dom.js";
import { maths } from "./maths.js";

const LONGEST = 5000; // characters of one paragraph; what is longer is no prose, and matching it could take seconds
const INLINE = new RegExp(
  [
    /(?<!\\)\\\((.+?)\\\)/, // 1: \( a formula \)
    /(?<![\w\\$])\$(?![\s$])((?:\\.|[^$\\\n])*?[^\s$\\])\$(?![\d$])/, // 2: $ a formula $; `$5 and $7` is none: no space may stand before the end
    /\\([\\`*_{}[\]()#+\-.!|<>$~])/, // 3: an escaped character
    /(`+)(.+?)\4/, // 4, 5: code
    /\*\*(.+?)\*\*/, // 6
    /\*([^*\s][^*]*?)\*/, // 7
    /~~(.+?)~~/, // 8
    /!?\[([^\]]*)\]\(([^()\s]+)\)/, // 9, 10: a link; an image is a link too
    /&(lt|gt|amp);/, // 11
  ]
    .map((part) => part.source)
    .join("|"),
  "gs",
);
const ENTITIES = { lt: "<", gt: ">", amp: "&" };
const PRICE = /^\d[^\\^_={}]*\s/; // `$5, or 10$`: begins as a number, goes on as words

/** Text as a list of block elements. `link` makes the address of a relative link, or null for none. */
export function markdown(text, link = () => null, rich = true) {
  const lines = String(text).replace(/\r\n?/g, "\n").split("\n");
  const tools = rich ? { code, maths } : PLAIN;
  return blocksOf(lines, { link, ...tools });
}

/** While text is being written its code and formulas stay plain: they would be made anew with every word. */
const PLAIN = {
  code: (text) => h("code", text),
  maths: (source, display) => h(display ? "div.maths" : "span.maths", h("code", source)),
};

/** How many characters of a text nothing that follows can change: up to an empty line outside of code, before a line of its own. */
export function settled(text) {
  const lines = text.split("\n");
  let [sure, at, marks] = [0, 0, null];
  for (const [i, line] of lines.entries()) {
    at += line.length + 1;
    if (marks) marks = closes(line, marks) ? null : marks;
    else if (FENCE.test(line)) marks = line.match(FENCE)[1];
    else if (line.trim() === "" && /^\S/.test(lines[i + 1] ?? "")) sure = at; // what is indented goes on with what was
  }
  return sure;
}

function blocksOf(lines, how) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const reader = BLOCKS.find(([starts]) => starts(lines, at));
    if (reader) at = reader[1](lines, at, blocks, how);
    else at += 1;
  }
  return blocks;
}

function inline(text, how) {
  if (text.length > LONGEST) return [text];
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    parts.push(text.slice(from, match.index));
    from = match.index + match[0].length;
    const [all, bracketed, dollar, escaped, , ticked, bold, italic, gone, label, target, entity] = match;
    if (bracketed) parts.push(how.maths(bracketed, false));
    else if (dollar) parts.push(PRICE.test(dollar) ? all : how.maths(dollar, false));
    else if (escaped) parts.push(escaped);
    else if (ticked) parts.push(h("code", ticked));
    else if (bold) parts.push(h("strong", inline(bold, how)));
    else if (italic) parts.push(h("em", inline(italic, how)));
    else if (gone) parts.push(h("del", inline(gone, how)));
    else if (entity) parts.push(ENTITIES[entity]);
    else parts.push(anchor(label || target, target, how.link));
  }
  parts.push(text.slice(from));
  return parts.filter((part) => part !== "");
}

function anchor(label, target, link) {
  const ours = /^(https?:\/\/|mailto:)/i.test(target);
  const href = ours ? target : /^[a-z][a-z0-9+.-]*:|^[/\\#]/i.test(target) ? null : link(target);
  return href ? h("a", { href, target: "_blank", rel: "noopener noreferrer" }, label) : label;
}

const FENCE = /^\s*(`{3,}|~{3,})\s*([^\s`]*)/;
const ITEM = /^(\s*)([-*+]|\d+[.)])\s+/;
const closes = (line, marks) => line.trim().startsWith(marks) && line.trim() === marks[0].repeat(line.trim().length);
const isFence = (lines, at) => FENCE.test(lines[at]);
const isFormula = (lines, at) => /^\s*(\$\$|\\\[)/.test(lines[at]) && formulaEnd(lines, at) >= at;
const isHeading = (lines, at) => /^#{1,6}\s/.test(lines[at]);
const isRule = (lines, at) => /^\s{0,3}(-{3,}|\*{3,}|_{3,})\s*$/.test(lines[at]);
/** The line under a table's head. Cell by cell: one expression for all of it takes minutes on a hostile line. */
const isDivider = (line) => {
  const cells = line.trim().split("|");
  if (cells.length === 1) return false;
  if (cells[0] === "") cells.shift();
  if (cells.at(-1) === "") cells.pop();
  return cells.length > 0 && cells.every((cell) => /^:?-+:?$/.test(cell.trim()));
};
const isTable = (lines, at) => /^\s*\|/.test(lines[at]) && isDivider(lines[at + 1] ?? "");
const isQuote = (lines, at) => /^\s{0,3}>/.test(lines[at]);
const isItem = (lines, at) => ITEM.test(lines[at]);
const isText = (lines, at) => lines[at].trim() !== "";

const BLOCKS = [
  [isFence, fence],
  [isFormula, formula],
  [isHeading, heading],
  [isRule, (lines, at, blocks) => blocks.push(h("hr")) && at + 1],
  [isTable, table],
  [isQuote, quote],
  [isItem, list],
  [isText, paragraph],
];

function fence(lines, at, blocks, how) {
  const [, marks, name] = lines[at].match(FENCE);
  let end = at + 1;
  while (end < lines.length && !closes(lines[end], marks)) end += 1;
  const text = lines.slice(at + 1, end).join("\n");
  blocks.push(h("pre", { tabindex: 0, role: "group", "aria-label": "code" }, how.code(text, name)));
  return end + 1;
}

/** The line on which a formula of its own block ends, or -1. */
function formulaEnd(lines, at) {
  const first = lines[at].trim();
  const close = first.startsWith("$$") ? "$$" : "\\]";
  if (first.length > 4 && first.endsWith(close)) return at;
  if (first.length > 2 && first.slice(2).includes(close)) return -1; // text goes on after it: no block
  for (let end = at + 1; end < lines.length && end < at + 60; end += 1) {
    if (lines[end].trim() === "") return -1;
    if (lines[end].trim().endsWith(close)) return end;
  }
  return -1;
}

function formula(lines, at, blocks, how) {
  const end = formulaEnd(lines, at);
  const text = lines.slice(at, end + 1).join("\n").trim();
  blocks.push(how.maths(text.slice(2, -2).trim(), true));
  return end + 1;
}

function quote(lines, at, blocks, how) {
  let end = at;
  while (end < lines.length && isQuote(lines, end)) end += 1;
  const inside = lines.slice(at, end).map((line) => line.replace(/^\s{0,3}> ?/, ""));
  const deep = inside.every((line) => /^(\s{0,3}>){20}/.test(line));
  blocks.push(h("blockquote", deep ? inside.join("\n") : blocksOf(inside, how)));
  return end;
}

function heading(lines, at, blocks, how) {
  const [, marks, text] = lines[at].match(/^(#{1,6})\s+(.*)$/) ?? [null, "#", lines[at].replace(/^#+\s*/, "")];
  blocks.push(h(`h${Math.min(6, marks.length + 1)}`, inline(text, how)));
  return at + 1;
}

function table(lines, at, blocks, how) {
  let end = at + 2;
  while (end < lines.length && /^\s*\|/.test(lines[end])) end += 1;
  const cells = (line) =>
    line
      .trim()
      .replace(/^\||(?<!\\)\|$/g, "")
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim());
  const head = cells(lines[at]).map((cell) => h("th", { scope: "col" }, inline(cell, how)));
  const row = (line) => h("tr", cells(line).map((cell) => h("td", inline(cell, how))));
  blocks.push(tabular("table", head, lines.slice(at + 2, end).map(row)));
  return end;
}

/** A list; what is indented under an item is of the item: more of its text, or a list of its own. */
function list(lines, at, blocks, how) {
  const [, indent, mark] = lines[at].match(ITEM);
  const ordered = /\d/.test(mark);
  const items = [];
  const mine = (line) => ITEM.test(line) && line.match(ITEM)[1].length <= indent.length + 1;
  while (at < lines.length && mine(lines[at]) && /\d/.test(lines[at].match(ITEM)[2]) === ordered) {
    const inside = [lines[at].replace(ITEM, "")];
    at += 1;
    const goesOn = (line) => /^\s{2,}/.test(line) && line.trim() !== "" && !mine(line);
    while (at < lines.length && (goesOn(lines[at]) || (!isText(lines, at) && goesOn(lines[at + 1] ?? ""))))
      inside.push(lines[at++]);
    const rest = inside.findIndex((line, i) => i > 0 && (ITEM.test(line) || FENCE.test(line) || line.trim() === ""));
    const own = rest === -1 ? inside : inside.slice(0, rest);
    const under = rest === -1 ? [] : blocksOf(dedent(inside.slice(rest)), how);
    items.push(h("li", inline(own.map((line) => line.trim()).join(" "), how), under));
  }
  blocks.push(h(ordered ? "ol" : "ul", ordered ? { start: parseInt(mark, 10) } : null, items));
  return at;
}

function dedent(lines) {
  const least = Math.min(...lines.filter((line) => line.trim()).map((line) => line.match(/^\s*/)[0].length));
  return lines.map((line) => line.slice(least));
}

function paragraph(lines, at, blocks, how) {
  let end = at + 1;
  const ends = (i) => !isText(lines, i) || BLOCKS.slice(0, -1).some(([starts]) => starts(lines, i));
  while (end < lines.length && !ends(end)) end += 1;
  blocks.push(h("p", inline(lines.slice(at, end).join("\n"), how)));
  return end;
}
