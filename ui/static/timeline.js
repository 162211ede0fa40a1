// When each fact of a replay is shown, and which facts are worth a tick. Pure.

import { before } from "./series.js";
import { OUTCOMES } from "./words.js";

export const LONGEST = 2; // seconds that a wait of the log may take at speed 1; people come for what happened

/** Seconds from the start of the replay for each fact, never going back. */
export function times(facts) {
  let at = 0;
  return facts.map((fact, i) => {
    const wait = i ? (Date.parse(fact.at) - Date.parse(facts[i - 1].at)) / 1000 : 0;
    at += Math.min(LONGEST, Math.max(0, wait || 0));
    return at;
  });
}

/** The facts that a person wants to jump to: {index, kind, label}. */
export function events(facts) {
  const told = facts.map((fact, index) => ({ index, ...(WORTH[fact.kind]?.(fact) ?? {}) }));
  return told.filter((event) => event.kind);
}

const WORTH = {
  found: (f) =>
    f.level === "info" ? null : { kind: f.level === "stop" ? "bad" : "warn", label: `Finding: ${f.rule.replaceAll("_", " ")}` },
  promoted: (f) => ({ kind: f.verdict === "keep" ? "good" : "quiet", label: `Verdict: ${f.verdict} ${f.model}` }),
  closed: (f) => ({ kind: "end", label: `Closed: ${OUTCOMES[f.outcome]?.[0] ?? f.outcome}` }),
};

/** How many facts are shown at a time of the replay: all that are not later. */
export const shownAt = (all, time) => before(all, time) + 1;

export const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
