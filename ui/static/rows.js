// The parts that the feed is made of: a card of rows, a row that opens, a quiet line.

import { body as opened, failed } from "./bodies.js";
import { h, icon, unfolding } from "./dom.js";
import { argument, seconds } from "./words.js";

const TOOLS = {
  shell: ["terminal", "Run"],
  train: ["chart", "Train"],
  sweep: ["chart", "Sweep"],
  evaluate: ["scale", "Evaluate"],
  promote: ["flag", "Judge"],
  wait: ["clock", "Wait"],
  cancel: ["stop", "Cancel"],
  job_log: ["list", "Read job log"],
  audit_data: ["search", "Audit data"],
  prepare_data: ["table", "Prepare data"],
  read_file: ["file", "Read"],
  read_skill: ["file", "Read skill"],
  scout: ["search", "Send a scout"],
  write_file: ["pencil", "Write"],
  list_files: ["list", "List files"],
  note: ["pencil", "Note"],
  plan: ["list", "Plan"],
  final_answer: ["flag", "Finish"],
};

const verb = (name) => TOOLS[name]?.[1] ?? name.replaceAll("_", " ").replace(/^./, (c) => c.toUpperCase());

/** A row: icon, verb, what it is about, and a right end. With `body`, a function, it opens; what is in it is made only then. */
export function row({ mark, name, about = "", end = "", body = null, open = false, tone = "" }) {
  const parts = [
    h("span.row-mark", mark),
    h("span.row-name", name),
    h("span.row-about", about),
    h("span.row-end", end),
  ];
  if (!body) return h(`div.row.${tone || "plain"}`, parts);
  const summary = h("summary", parts, icon("chevron", "turn"));
  return unfolding(`details.row.${tone || "plain"}`, summary, h("div.row-body"), () => body().filter(Boolean), open);
}

export const spinner = () => h("span.spinner", { "aria-hidden": "true" });

/** A tool call: first with a spinner, and once more when its answer is there. */
export function toolRow(started, finished, before = null) {
  const about = argument(started.arguments);
  if (!finished) return row({ mark: spinner(), name: verb(started.name), about, tone: "running" });
  const refused = started.name === "final_answer" && !finished.ok; // a wish to end that was not granted: nothing broke
  const bad = failed(finished) && !refused;
  return row({
    mark: icon(bad ? "cross" : (TOOLS[started.name]?.[0] ?? "check")),
    name: refused ? "Not finished yet" : verb(started.name),
    about: refused ? finished.output : about,
    end: seconds(finished.seconds),
    body: () => opened(started, finished, before),
    open: bad,
    tone: bad ? "error" : "ok",
  });
}

export const quiet = (iconName, ...children) => h("div.quiet", icon(iconName), h("span", ...children));
export const pill = (text, tone) => h(`span.pill.${tone}`, h("span.dot", { "aria-hidden": "true" }), text);

/** A bar that is full at a share of 1. */
export function bar(label, share) {
  const fill = h("div.bar-fill");
  fill.style.width = `${Math.min(1, share) * 100}%`;
  const about = { role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 };
  const now = Math.round(Math.min(1, share) * 100);
  return h("div.bar", { ...about, "aria-valuenow": now, "aria-valuetext": `${Math.round(share * 100)} %` }, fill);
}

/** How much of a job is done. */
export const progress = ({ job, step, steps, ended }) =>
  bar(`progress of ${job}`, steps ? Math.min(1, step / steps) : ended ? 1 : 0);
