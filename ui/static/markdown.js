// A small part of Markdown as elements: headings, paragraphs, lists, tables, code, bold, italics, links. No HTML passes:
// everything becomes text nodes, so markup in what a model or a dataset wrote shows as text.

import { h } from "./dom.js";

const INLINE =
  /\\([\\`*_{}[\]()#+\-.!|<>])|(`+)(.+?)\2|\*\*(.+?)\*\*|\*([^*\s][^*]*?)\*|\[([^\]]+)\]\(([^()\s]+)\)|&(lt|gt|amp);/g;
const ENTITIES = { lt: "<", gt: ">", amp: "&" };

/** Text as a list of block elements. `link` makes the address of a relative link, or null for none. */
export function markdown(text, link = () => null) {
  const lines = String(text).replace(/\r\n?/g, "\n").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const reader = BLOCKS.find(([starts]) => starts(lines, at));
    if (reader) at = reader[1](lines, at, blocks, link);
    else at += 1;
  }
  return blocks;
}

export function inline(text, link = () => null) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    parts.push(text.slice(from, match.index));
    from = match.index + match[0].length;
    const [, escaped, , code, bold, italic, label, target, entity] = match;
    if (escaped) parts.push(escaped);
    else if (code) parts.push(h("code", code));
    else if (bold) parts.push(h("strong", inline(bold, link)));
    else if (italic) parts.push(h("em", inline(italic, link)));
    else if (entity) parts.push(ENTITIES[entity]);
    else parts.push(anchor(label, target, link));
  }
  parts.push(text.slice(from));
  return parts.filter((part) => part !== "");
}

function anchor(label, target, link) {
  const href = /^https?:\/\//.test(target) ? target : /^[a-z][a-z0-9+.-]*:|^\/|^#/i.test(target) ? null : link(target);
  return href ? h("a", { href, target: "_blank", rel: "noopener noreferrer" }, label) : label;
}

const isFence = (lines, at) => /^\s*```/.test(lines[at]);
const isHeading = (lines, at) => /^#{1,6}\s/.test(lines[at]);
const isTable = (lines, at) => /^\s*\|/.test(lines[at]) && /^\s*\|?[\s:|-]+\|[\s:|-]*$/.test(lines[at + 1] ?? "");
const isItem = (lines, at) => /^\s*([-*+]|\d+[.)])\s+/.test(lines[at]);
const isText = (lines, at) => lines[at].trim() !== "";

const BLOCKS = [
  [isFence, fence],
  [isHeading, heading],
  [isTable, table],
  [isItem, list],
  [isText, paragraph],
];

function fence(lines, at, blocks) {
  let end = at + 1;
  while (end < lines.length && !isFence(lines, end)) end += 1;
  blocks.push(h("pre", { tabindex: 0 }, h("code", lines.slice(at + 1, end).join("\n"))));
  return end + 1;
}

function heading(lines, at, blocks, link) {
  const [, marks, text] = lines[at].match(/^(#{1,6})\s+(.*)$/) ?? [null, "#", lines[at].replace(/^#+\s*/, "")];
  blocks.push(h(`h${Math.min(6, marks.length + 1)}`, inline(text, link)));
  return at + 1;
}

function table(lines, at, blocks, link) {
  let end = at + 2;
  while (end < lines.length && /^\s*\|/.test(lines[end])) end += 1;
  const cells = (line) =>
    line
      .trim()
      .replace(/^\||(?<!\\)\|$/g, "")
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim());
  const head = h(
    "thead",
    h(
      "tr",
      cells(lines[at]).map((cell) => h("th", { scope: "col" }, inline(cell, link))),
    ),
  );
  const rows = lines.slice(at + 2, end).map((line) =>
    h(
      "tr",
      cells(line).map((cell) => h("td", inline(cell, link))),
    ),
  );
  blocks.push(
    h("div.table", { tabindex: 0, role: "group", "aria-label": "table" }, h("table", head, h("tbody", rows))),
  );
  return end;
}

function list(lines, at, blocks, link) {
  const ordered = /^\s*\d/.test(lines[at]);
  const items = [];
  while (at < lines.length && isItem(lines, at)) {
    let text = lines[at].replace(/^\s*([-*+]|\d+[.)])\s+/, "");
    at += 1;
    while (at < lines.length && isText(lines, at) && /^\s{2,}/.test(lines[at]) && !isItem(lines, at)) {
      text += ` ${lines[at].trim()}`;
      at += 1;
    }
    items.push(h("li", inline(text, link)));
  }
  blocks.push(h(ordered ? "ol" : "ul", items));
  return at;
}

function paragraph(lines, at, blocks, link) {
  let end = at + 1;
  const ends = (i) => !isText(lines, i) || BLOCKS.slice(0, 4).some(([starts]) => starts(lines, i));
  while (end < lines.length && !ends(end)) end += 1;
  blocks.push(h("p", inline(lines.slice(at, end).join("\n"), link)));
  return end;
}
