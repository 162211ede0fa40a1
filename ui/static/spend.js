// What a session has used, each against its cap. Unknown is said to be unknown; it is never counted as 0.

import { h } from "./dom.js";
import { card } from "./panels.js";
import * as words from "./words.js";

const TIGHT = 0.8; // of a cap

/** Seconds of wall clock since the session was opened; the clock stands while nobody works. */
export function elapsed(state, now) {
  if (!state.opened) return 0;
  const until = state.active ? now : Date.parse(state.now);
  return Math.max(0, (until - Date.parse(state.opened.at)) / 1000);
}

/** Run time of jobs in seconds, those that still run up to now, as the cap counts it. */
export function jobSeconds(state, now) {
  const running = [...state.jobs.values()].filter((job) => !job.ended);
  return state.jobSeconds + running.reduce((sum, job) => sum + Math.max(0, (now - Date.parse(job.at)) / 1000), 0);
}

export function spend(state, now) {
  const budget = state.budget ?? {};
  const rows = [
    ["Dollars", ...money(state), budget.dollars, words.dollars],
    ["Tokens", ...tokens(state), budget.tokens, words.compact],
    ["Wall clock", elapsed(state, now), "", hours(budget.hours), words.seconds],
    ["Job time", jobSeconds(state, now), "", hours(budget.job_hours), words.seconds],
  ];
  return card("spend", "Budget", "used of its cap", h("dl.caps", rows.map(capped)));
}

function capped([name, used, note, cap, said]) {
  const share = cap && used !== null ? used / cap : null;
  const amount = used === null ? "unknown" : said(used);
  const tone = share === null ? "" : share >= 1 ? ".full" : share >= TIGHT ? ".tight" : "";
  const limit = cap ? ` of ${said(cap)}` : ", no cap";
  return h(
    `div.cap${tone}`,
    h("dt", name),
    h("dd", h("b", amount), limit, note ? h("span.cap-note", note) : null, share === null ? null : gauge(name, share)),
  );
}

function gauge(name, share) {
  const fill = h("div.bar-fill");
  fill.style.width = `${Math.min(1, share) * 100}%`;
  const now = Math.round(Math.min(1, share) * 100);
  const about = { role: "progressbar", "aria-label": `${name} used`, "aria-valuemin": 0, "aria-valuemax": 100 };
  return h("div.bar", { ...about, "aria-valuenow": now, "aria-valuetext": `${Math.round(share * 100)} %` }, fill);
}

function money(state) {
  const jobs = [...state.jobs.values()].filter((job) => job.ended && job.ended.dollars == null).length;
  const unknown = [
    state.unpriced ? `${state.unpriced} of ${state.replies} answers` : "",
    jobs ? `${jobs} ${jobs === 1 ? "job" : "jobs"}` : "",
  ].filter(Boolean);
  const nothing = state.dollars === 0 && unknown.length > 0;
  return [nothing ? null : state.dollars, unknown.length ? `price unknown: ${unknown.join(", ")}` : ""];
}

function tokens(state) {
  if (state.driver === "autopilot" && state.tokens === 0) return [0, "no LLM at work"];
  if (state.uncounted === 0) return [state.tokens, ""];
  const note = `not counted: ${state.uncounted} of ${state.replies} answers`;
  return [state.tokens === 0 ? null : state.tokens, note];
}

const hours = (cap) => (cap == null ? null : cap * 3600);
