// The files of a session: a list with a filter, and one file at a time with its preview and its download.

import { address, api } from "./api.js";
import { h, icon } from "./dom.js";
import { shown } from "./preview.js";

const DRAWN = 300; // rows; the filter finds the others
const ICONS = [
  [/\.(safetensors|bin|pt|gguf)$/i, "cube"],
  [/\.(csv|tsv|jsonl|ndjson|parquet)$/i, "table"],
  [/\.(py|sh)$|log\.txt$/i, "terminal"],
];

export class Files {
  constructor(session) {
    Object.assign(this, { session, files: [], more: 0, path: null, asked: 0 });
    this.filter = h("input.files-filter", { type: "search", placeholder: "Filter files", "aria-label": "filter files" });
    this.filter.addEventListener("input", () => this.list());
    // Escape empties the box, as it does in every search box, and does not stop the session
    this.filter.addEventListener("keydown", (event) => event.key === "Escape" && event.stopPropagation());
    this.order = h("select.files-order", { "aria-label": "order", onchange: () => this.list() }, [
      h("option", { value: "changed" }, "Newest first"),
      h("option", { value: "path" }, "By name"),
      h("option", { value: "size" }, "Largest first"),
    ]);
    const again = { type: "button", "aria-label": "Read the list again", title: "Read the list again", onclick: () => this.load() };
    this.count = h("div.hint", { role: "status" });
    this.rows = h("ul.files-list", { "aria-label": "files" });
    this.index = h("div", h("div.files-bar", this.filter, this.order, h("button.plain", again, "Refresh")), this.count, this.rows);
    this.page = h("div.file-page", { hidden: true });
    this.element = h("div.files", this.index, this.page);
  }

  /** Read the list. */
  async load() {
    try {
      const { files, more } = await api.files(this.session);
      Object.assign(this, { files, more });
      this.list();
    } catch (error) {
      this.count.textContent = error.message;
    }
  }

  list() {
    const wanted = this.filter.value.trim().toLowerCase().split(/\s+/);
    const order = this.order.value;
    const found = this.files.filter((file) => wanted.every((word) => file.path.toLowerCase().includes(word)));
    found.sort((a, b) => (order === "path" ? a.path.localeCompare(b.path) : b[order] - a[order]));
    this.rows.replaceChildren(...found.slice(0, DRAWN).map((file) => h("li", this.row(file))));
    this.count.textContent = this.summary(found.length);
  }

  summary(found) {
    if (!this.files.length) return "There is no file yet.";
    const all = found === this.files.length ? `${found} files` : `${found} of ${this.files.length} files`;
    const hidden = found > DRAWN ? `; the first ${DRAWN} are shown` : "";
    return all + hidden + (this.more ? `; ${this.more} more are not listed` : "");
  }

  row(file) {
    const cut = file.path.lastIndexOf("/") + 1;
    return h(
      "button.file",
      { type: "button", "data-path": file.path, onclick: () => this.open(file.path) },
      icon(ICONS.find(([ending]) => ending.test(file.path))?.[1] ?? "file"),
      h("span.file-name.mono", h("span.file-folder", file.path.slice(0, cut)), file.path.slice(cut)),
      h("span.file-size.num", bytes(file.size)),
      h("span.file-age.num", age(Date.now() / 1000 - file.changed)),
    );
  }

  /** Show one file in place of the list. */
  async open(path) {
    this.path = path;
    this.asked += 1;
    const mine = this.asked;
    const back = h("button.plain.file-back", { type: "button", onclick: () => this.close() }, icon("chevron", "back"), "Files");
    const about = h("span.hint.num");
    const save = h(
      "a.button",
      { href: address(this.session, "download", path), download: path.split("/").pop() },
      icon("download"),
      "Download",
    );
    const body = h("div.file-body", { "aria-live": "polite" }, h("div.hint", "Reading…"));
    const title = h("h2.file-title.mono", path);
    this.page.replaceChildren(h("div.file-bar", back, h("span.grow"), about, save), title, body);
    this.page.hidden = false;
    this.index.hidden = true;
    back.focus({ preventScroll: true });
    let parts;
    try {
      const seen = await api.preview(this.session, path);
      about.textContent = bytes(seen.size);
      parts = shown(seen, path, address(this.session, "image", path));
    } catch (error) {
      parts = [h("div.empty", error.message)];
    }
    if (mine === this.asked) body.replaceChildren(...parts); // another file may have been opened meanwhile
  }

  close() {
    this.asked += 1;
    this.page.hidden = true;
    this.page.replaceChildren();
    this.index.hidden = false;
    [...this.rows.querySelectorAll(".file")].find((row) => row.dataset.path === this.path)?.focus();
    this.path = null;
  }
}

export function bytes(size) {
  const units = ["B", "kB", "MB", "GB"];
  let at = 0;
  while (size >= 1000 && at < 3) {
    size /= 1000;
    at += 1;
  }
  return `${at === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[at]}`;
}

function age(seconds) {
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}
