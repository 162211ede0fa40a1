// A file's preview as elements. Whatever is in the file stays text: nothing here makes markup of it.

import { h, tabular } from "./dom.js";
import { markdown } from "./markdown.js";

const pre = (text, label) => h("pre.output.file-text", { tabindex: 0, "aria-label": label }, text);

const KINDS = {
  text: (seen) => [
    pre(seen.head, "text of the file"),
    ...(seen.tail === undefined
      ? []
      : [h("div.file-gap", `${seen.skipped.toLocaleString("en")} bytes are left out here`), pre(seen.tail, "end of the file")]),
  ],
  json: (seen) => [pre(seen.text, "JSON of the file")],
  markdown: (seen) => [h("article.report", markdown(seen.text))],
  table,
  tensors: table,
  image: (seen, path, src) => [h("figure.file-image", h("img", { src, alt: path.split("/").pop(), onload: measured }), h("figcaption.hint"))],
  none: () => [h("div.empty", "There is no preview of this kind of file; download it to look at it.")],
};

/** Elements for what the server says of a file. `src` is where its picture is, if it is one. */
export function shown(seen, path, src) {
  const note = seen.note ? [h("div.file-note.hint", seen.note)] : [];
  return [...note, ...(KINDS[seen.kind] ?? KINDS.none)(seen, path, src)];
}

function table(seen) {
  const types = seen.types ?? [];
  const head = seen.columns.map((name, i) => h("th", { scope: "col" }, name, types[i] ? h("span.hint", ` ${types[i]}`) : null));
  const rows = seen.rows.map((row) => h("tr", row.map((cell) => h("td", cell))));
  const left = [
    seen.more ? `the first ${seen.rows.length} rows are shown` : "",
    seen.columns_left_out ? `${seen.columns_left_out} more columns are left out` : "",
  ].filter(Boolean);
  return [
    tabular("rows of the file", head, rows, { spec: "div.table.file-table" }),
    ...(left.length ? [h("div.hint", left.join("; "))] : []),
  ];
}

function measured(event) {
  const { naturalWidth, naturalHeight, parentElement } = event.target;
  parentElement.lastChild.textContent = `${naturalWidth} × ${naturalHeight} px`;
}
