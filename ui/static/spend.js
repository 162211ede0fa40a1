// What a session has used, each against its cap. Unknown is said to be unknown; it is never counted as 0.

import { h } from "./dom.js";
import { card } from "./panels.js";
import { bar } from "./rows.js";
import * as words from "./words.js";

const TIGHT = 0.8; // of a cap
const MOST_CALLS = 300; // of a model, in a session without a cap of its own; agent/session.py ends it there

/** Run time of jobs in seconds, those that have the machine up to now, as the cap counts it: waiting in the queue is free. */
export function jobSeconds(state, now) {
  return state.jobSeconds + sum(running(state), (job) => ran(job, now));
}

const running = (state) => [...state.jobs.values()].filter((job) => !job.ended);
const ran = (job, now) => (job.began ? Math.max(0, (now - Date.parse(job.began)) / 1000) : 0);
const cost = (job, seconds) => ((job.price ?? 0) * seconds) / 3600;
const sum = (jobs, amount) => jobs.reduce((total, job) => total + amount(job), 0);

export function spend(state, now) {
  const budget = state.budget ?? {};
  const rows = [
    ["Dollars", ...money(state, now), budget.dollars, words.dollars],
    ["Tokens", ...tokens(state), budget.tokens, words.compact],
    ["Wall clock", state.elapsed(now), "", hours(budget.hours), words.seconds],
    ["Job time", jobSeconds(state, now), "", hours(budget.job_hours), words.seconds],
    ...calls(state),
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
    h("dd", h("b", amount), limit, note ? h("span.cap-note", note) : null, share === null ? null : bar(`${name} used`, share)),
  );
}

/** Dollars with what running jobs have cost up to now, as the cap counts them, and what they may still cost. */
function money(state, now) {
  const jobs = [...state.jobs.values()].filter((job) => (job.ended ? job.ended.dollars == null : job.price === null)).length;
  const more = sum(running(state), (job) => cost(job, Math.max(0, job.hours * 3600 - ran(job, now))));
  const unknown = [
    state.unpriced ? `${state.unpriced} of ${answers(state)}` : "",
    jobs ? `${jobs} ${jobs === 1 ? "job" : "jobs"}` : "",
  ].filter(Boolean);
  const paid = state.paid === null ? null : state.paid + sum(running(state), (job) => cost(job, ran(job, now)));
  const notes = [
    unknown.length ? `price unknown: ${unknown.join(", ")}` : "",
    more ? `running jobs may cost ${words.dollars(more)} more` : "",
  ];
  return [paid, notes.filter(Boolean).join("; ")];
}

/** Autopilot calls no model: it has such a line only where a person set a cap. The cap counts the scouts' calls, too. */
function calls({ budget, driver, replies, scouted }) {
  const cap = budget?.calls ?? (driver === "autopilot" ? null : MOST_CALLS);
  return cap === null ? [] : [["Model calls", replies, scouted ? `${scouted} by scouts` : "", cap, words.number]];
}

const answers = ({ replies, scouted }) => `${replies} answers${scouted ? `, ${scouted} of them by scouts` : ""}`;

function tokens(state) {
  if (state.driver === "autopilot" && state.tokens === 0) return [0, "no LLM at work"];
  if (state.uncounted === 0) return [state.tokens, ""];
  const note = `not counted: ${state.uncounted} of ${answers(state)}`;
  return [state.tokens === 0 ? null : state.tokens, note];
}

const hours = (cap) => (cap == null ? null : cap * 3600);
