// What the work pane is made of: each panel is a function of the state. Pure but for making elements.

import { h, icon } from "./dom.js";
import { finding } from "./feed.js";
import { bar, pill, spinner } from "./rows.js";
import * as words from "./words.js";

const STEPS = { done: "check", todo: "circle", dropped: "minus" };

const card = (name, title, aside, ...body) =>
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

export function ideas(state) {
  const trials = state.promotions;
  if (!trials.length) return null;
  const items = trials.map((p) => {
    const keep = p.verdict === "keep";
    const change = p.delta === null ? "not measured" : words.signed(p.delta);
    const idea = p.idea || state.jobs.get(p.model)?.idea || p.model;
    return h(
      `li.idea.${keep ? "keep" : "discard"}`,
      icon(keep ? "check" : "cross"),
      h("div.idea-text", h("div", idea), h("div.idea-why", h("span.mono", p.model), ` ${p.reason}`)),
      h("div.idea-end", h("b", keep ? "Keep" : p.verdict === "crash" ? "Crash" : "Discard"), h("span", change)),
    );
  });
  const kept = trials.filter((p) => p.verdict === "keep").length;
  return card("ideas", "Ideas tried", `${kept} kept of ${trials.length}`, h("ol.idea-list", items));
}

export function scores(state, session) {
  if (!state.scores.length) return null;
  const target = state.opened?.goal.target ?? null;
  const latest = state.scores.filter((s) => state.score(s.model, s.split) === s);
  const rows = latest.map((s) =>
    h(
      `tr${s.model === state.best ? ".best" : ""}`,
      h("td", h("span.mono", s.model), s.model === state.best && s.model !== "base" ? h("span.mark", "best") : null),
      h("td", s.split === "heldout" ? "held-out" : s.split),
      h("td.num", h("b", s.value.toFixed(3)), ` [${s.low.toFixed(2)}, ${s.high.toFixed(2)}]`),
      h("td.wide", interval(s, target)),
      h("td.num", String(s.n)),
      h(
        "td.wide",
        h("a", { href: `/api/sessions/${session}/files/${s.items}`, target: "_blank", rel: "noopener" }, "items"),
      ),
    ),
  );
  const columns = [
    ["Model"],
    ["Split"],
    ["Accuracy, 95 %", "num"],
    ["0 to 1", "wide"],
    ["n", "num"],
    ["Answers", "wide"],
  ];
  const head = h(
    "thead",
    h(
      "tr",
      columns.map(([name, kind]) => h(`th${kind ? `.${kind}` : ""}`, { scope: "col" }, name)),
    ),
  );
  const aside = target === null ? "sealed" : `sealed · target ${target}`;
  return card(
    "scores",
    "Scores",
    aside,
    h("div.table", { tabindex: 0, role: "group", "aria-label": "scores" }, h("table", head, h("tbody", rows))),
  );
}

function interval(s, target) {
  const range = h("span.range");
  Object.assign(range.style, { left: `${s.low * 100}%`, width: `${Math.max(1, (s.high - s.low) * 100)}%` });
  const value = h("span.value");
  value.style.left = `${s.value * 100}%`;
  const goal = h("span.target");
  goal.style.left = `${(target ?? 0) * 100}%`;
  return h("span.interval", { "aria-hidden": "true" }, range, value, target === null ? null : goal);
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

export function jobs(state) {
  const all = [...state.jobs.values()].reverse();
  if (!all.length) return h("div.empty", "No job has run yet.");
  return all.map((job) => {
    const [label, tone] = job.ended ? words.JOB_STATES[job.ended.state] : ["Running", "busy"];
    const values = words.metricOrder(Object.keys(job.values)).slice(0, 3);
    const metrics = values.map((name) => `${words.metric(name)[0].toLowerCase()} ${words.number(job.values[name])}`);
    const left = job.ended ? `${words.seconds(job.ended.seconds)}` : job.eta ? `${words.seconds(job.eta)} left` : "";
    return h(
      "section.card.job",
      { "aria-label": job.job },
      h(
        "div.job-head",
        h("span.mono.job-name", job.job),
        job.attempt > 1 ? h("span.hint", `attempt ${job.attempt}`) : null,
        h("span.grow"),
        pill(label, tone),
      ),
      job.idea ? h("div.job-idea", job.idea) : null,
      h(
        "div.job-facts",
        h("span", [job.machine, ...metrics].join(" · ")),
        h("span.num", job.steps ? `${job.step} / ${job.steps}` : ""),
        h("span.num", left),
      ),
      bar(job),
      job.ended?.reason ? h("div.job-reason", job.ended.reason) : null,
      h(
        "details.job-config",
        h("summary", "Settings", icon("chevron", "turn")),
        h("pre.given", { tabindex: 0 }, JSON.stringify(job.config, null, 2)),
      ),
    );
  });
}
