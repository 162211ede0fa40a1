// What the work pane is made of: each panel is a function of the state. Pure but for making elements.

import { h, icon } from "./dom.js";
import { finding } from "./feed.js";
import { spinner } from "./rows.js";
import * as words from "./words.js";

const STEPS = { done: "check", todo: "circle", dropped: "minus" };

export const card = (name, title, aside, ...body) =>
  h(
    `section.card.${name}`,
    { "aria-label": title },
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
    tile("Spent", words.dollars(state.dollars), state.tokens ? `${words.compact(state.tokens)} tok` : ""),
  );
}

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

const VERDICTS = { keep: ["check", "Keep"], discard: ["cross", "Discard"], crash: ["warn", "Crash"] };

export function ideas(state) {
  const trials = state.promotions;
  if (!trials.length) return null;
  const items = trials.map((p) => {
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
  return card("ideas", "Ideas tried", `${kept} kept of ${trials.length}`, h("ol.idea-list", items));
}

/** The change on the same dev items, with its interval. */
function change(p) {
  const range = p.low === null ? "" : ` [${words.signed(p.low)}, ${words.signed(p.high)}]`;
  return [h("span", words.signed(p.delta), h("span.sr", ` against ${p.against}`)), h("span.idea-range", range)];
}

export function findings(state) {
  const told = state.findings.filter((f) => f.level !== "info");
  if (!told.length) return null;
  return card(
    "findings",
    "Findings",
    `${told.length}, each with advice`,
    h("div.finding-list", [...told].reverse().map(finding)),
  );
}
