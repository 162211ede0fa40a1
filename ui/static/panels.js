// What the work pane is made of: each panel is a function of the state. Pure but for making elements.

import { h, icon } from "./dom.js";
import { finding } from "./feed.js";
import { spinner } from "./rows.js";
import * as words from "./words.js";

export const FEW = 20; // lines of a list until a person asks for all: hundreds cost a page seconds of layout
const STEPS = { done: "check", todo: "circle", dropped: "minus" };

export const card = (name, title, aside, ...body) =>
  h(
    `section.card.${name}`,
    { "aria-label": title, tabindex: -1 },
    h("div.card-head", h("h2", title), h("span.hint", aside)),
    ...body,
  );
const tile = (label, value, aside) =>
  h("div.tile", h("div.tile-label", label), h("div.tile-value", value, h("span.tile-aside", aside)));

export function tiles(state) {
  const best = state.score(state.best, "heldout") ?? state.score(state.best, "dev");
  const split = best && best.split === "dev" ? "Best on dev" : "Best held-out";
  const kept = state.promotions.filter((p) => p.verdict === "keep").length;
  const running = [...state.jobs.values()].findLast((job) => !job.ended);
  const done = [...state.jobs.values()].filter((job) => job.ended?.state === "done").length;
  return h(
    "section.tiles",
    { "aria-label": "numbers" },
    best
      ? tile(split, best.value.toFixed(3), `[${best.low.toFixed(2)}, ${best.high.toFixed(2)}]`)
      : tile("Best held-out", "–", "not measured"),
    tile("Ideas", String(state.promotions.length), `tried, ${kept} kept`),
    running
      ? tile("Step", String(running.step), `${running.steps ? `/ ${running.steps} ` : ""}${running.job}`)
      : tile("Jobs", String(done), `of ${state.jobs.size} done`),
    tile("Spent", state.paid === null ? "–" : words.dollars(state.paid), state.paid === null ? "price unknown" : state.tokens ? `${words.compact(state.tokens)} tok` : ""),
  );
}

const MARKS = { kept: "check", "not kept": "warn", off: "minus", unknown: "circle" };

/** Whether the session is kept on the Hub or in a folder, with the way to the Hub. */
export const kept = ({ state, said, where }) =>
  h(
    `p.kept.${state === "not kept" ? "bad" : state}`,
    icon(MARKS[state]),
    h("span", said, where && [" ", h("a", { href: where, target: "_blank", rel: "noopener" }, "Open it")]),
  );

export function plan(state) {
  if (!state.plan.length) return null;
  const done = state.plan.filter((step) => step.state === "done").length;
  const mark = (step) =>
    step.state === "doing" ? (state.active ? spinner() : icon("circle")) : icon(STEPS[step.state]);
  const items = state.plan.map((step) =>
    h(`li.step.${step.state}`, mark(step), h("span", step.text), h("span.sr", `, ${step.state}`)),
  );
  return card("plan", "Plan", `${done} of ${state.plan.length}`, h("ol.steps", items));
}

/** A button for the lines that a list leaves out; none when it leaves out none. `list` is {whole, more}. */
export const rest = (count, what, list) =>
  count > 0 ? h("button.link.rest", { type: "button", onclick: list.more }, `Show ${count.toLocaleString("en")} ${what}`) : null;

const VERDICTS = { keep: ["check", "Keep"], discard: ["cross", "Discard"], crash: ["warn", "Crash"] };

export function ideas(state, list) {
  const trials = state.promotions;
  if (!trials.length) return null;
  const shown = list.whole ? trials : trials.slice(-FEW);
  const items = shown.map((p) => {
    const [mark, label] = VERDICTS[p.verdict];
    const idea = p.idea || state.jobs.get(p.model)?.idea || p.model;
    return h(
      `li.idea.${p.verdict}`,
      icon(mark),
      h("div.idea-text", h("div", idea), h("div.idea-why", h("span.mono", p.model), ` ${p.reason}`)),
      h("div.idea-end", h("b", label), p.delta === null ? h("span", "not measured") : change(p)),
    );
  });
  const kept = trials.filter((p) => p.verdict === "keep").length;
  const earlier = rest(trials.length - shown.length, "earlier", list);
  return card("ideas", "Ideas tried", `${kept} kept of ${trials.length}`, ...[earlier, h("ol.idea-list", items)].filter(Boolean));
}

/** The change on the same dev items, with its interval. */
function change(p) {
  const range = p.low === null ? "" : ` [${words.signed(p.low)}, ${words.signed(p.high)}]`;
  return [h("span", words.signed(p.delta), h("span.sr", ` against ${p.against}`)), h("span.idea-range", range)];
}

export function findings(state, list) {
  const told = state.findings.filter((f) => f.level !== "info");
  if (!told.length) return null;
  const shown = [...told].reverse().slice(0, list.whole ? told.length : FEW);
  return card(
    "findings",
    "Findings",
    `${told.length}, each with advice`,
    h("div.finding-list", shown.map(finding), rest(told.length - shown.length, "earlier", list) ?? ""),
  );
}
