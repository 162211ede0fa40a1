// The transcript: one reader for each kind of fact. A kind without a reader is shown as its name and breaks nothing.

import { decision } from "./approval.js";
import { h, icon } from "./dom.js";
import { markdown } from "./markdown.js";
import { bar, pill, quiet, row, spinner, toolRow } from "./rows.js";
import * as words from "./words.js";

const SILENT = new Set(["plan", "note", "promote", "final_answer"]); // tools whose own fact says it better
const LEVELS = { info: "info", warn: "warn", stop: "stop" };

export class Feed {
  /** `list` is the element that the transcript grows in; `acts` are {decide, openReport}. */
  constructor(list, acts) {
    Object.assign(this, {
      list,
      acts,
      calls: new Map(),
      jobs: new Map(),
      cards: new Map(),
      plan: "",
      jobsToDraw: new Set(),
    });
  }

  /** Show one more fact. `state` has it already. */
  add(fact, state) {
    const reader = READERS[fact.kind];
    if (!reader) {
      this.put(quiet("info", `A fact of a kind that this page does not know: ${fact.kind}`));
      return;
    }
    reader(this, fact, state);
  }

  /** Put an element at the end, marked with who it comes from when that is a scout. */
  put(element, fact = null) {
    if (fact && fact.who !== "main") element.prepend(h("span.who", fact.who));
    this.list.append(element);
    return element;
  }

  /** Put a row into the card at the end, or into a new one. */
  putRow(element) {
    const last = this.list.lastElementChild;
    const card = last?.classList.contains("rows") ? last : this.put(h("div.rows"));
    card.append(element);
    return element;
  }

  swap(map, key, fresh) {
    const old = map.get(key);
    if (old instanceof HTMLDetailsElement && fresh instanceof HTMLDetailsElement) fresh.open ||= old.open;
    if (old) old.replaceWith(fresh);
    map.set(key, fresh);
  }

  /** Draw the jobs that moved: once a frame, however many facts there were. */
  settle(state) {
    for (const id of this.jobsToDraw) {
      const job = state.jobs.get(id);
      if (job && this.jobs.has(id)) this.swap(this.jobs, id, jobRow(job));
    }
    this.jobsToDraw.clear();
  }
}

const READERS = {
  opened: (feed, f) => {
    const { goal, budget } = f;
    const facts = [
      `task ${goal.task}`,
      `model ${words.model(goal.model)}`,
      goal.target === null ? null : `target ${goal.target}`,
      budget.hours === null ? "no time limit" : words.seconds(budget.hours * 3600),
      words.driver(f.driver),
    ];
    feed.put(h("div.said", h("div.bubble", goal.text)));
    feed.put(h("div.meta", facts.filter(Boolean).join(" · ")));
  },
  said: (feed, f) => feed.put(h("div.said", f.by === "local" ? null : h("span.who", f.by), h("div.bubble", f.text))),
  replied: (feed, f) => {
    if (f.thought) {
      const summary = h(
        "summary",
        icon("spark"),
        `Thought${f.seconds >= 1 ? ` for ${words.seconds(f.seconds)}` : ""}`,
        icon("chevron", "turn"),
      );
      feed.put(h("details.thought", summary, h("div.thought-text", markdown(f.thought))), f);
    }
    if (f.text) feed.put(h("div.reply", markdown(f.text)), f);
  },
  started: (feed, f) => {
    if (!SILENT.has(f.name)) feed.calls.set(f.call, feed.putRow(toolRow(f, null)));
  },
  finished: (feed, f, state) => {
    const started = state.started.get(f.call) ?? { name: f.name, arguments: {} };
    const fresh = toolRow(started, f);
    if (feed.calls.has(f.call)) feed.swap(feed.calls, f.call, fresh);
    else if (!f.ok) feed.putRow(fresh); // an error is shown whatever the tool
    redecide(feed, f.call, state);
  },
  asked: (feed, f, state) => {
    feed.cards.set(f.call, feed.put(decision(f, state, feed.acts.decide)));
  },
  decided: (feed, f, state) => {
    redecide(feed, f.call, state);
    const name = state.asked.get(f.call)?.name ?? f.call;
    const edited = f.arguments ? ", with changes" : "";
    feed.put(quiet(f.allow ? "check" : "cross", `${f.allow ? "Approved" : "Denied"} by ${f.by}: ${name}${edited}`));
  },
  launched: (feed, f, state) => {
    feed.jobs
      .get(f.job)
      ?.replaceWith(row({ mark: icon("minus"), name: f.job, about: `goes on as attempt ${f.attempt}`, tone: "over" }));
    feed.jobs.set(f.job, feed.putRow(jobRow(state.jobs.get(f.job))));
  },
  queued: (feed, f) => feed.jobsToDraw.add(f.job),
  progressed: (feed, f) => feed.jobsToDraw.add(f.job),
  ended: (feed, f) => feed.jobsToDraw.add(f.job),
  found: (feed, f) => feed.put(finding(f), f),
  scored: (feed, f) =>
    feed.putRow(
      row({
        mark: icon("scale"),
        name: `${f.model} on ${f.split === "heldout" ? "held-out" : f.split}`,
        about: f.metric,
        end: h("span.score", h("b", f.value.toFixed(3)), ` [${f.low.toFixed(2)}, ${f.high.toFixed(2)}] n=${f.n}`),
        tone: "scored",
      }),
    ),
  promoted: (feed, f) => feed.put(verdict(f), f),
  noted: (feed, f) => feed.put(quiet("pencil", h("b", f.topic), ` ${f.text}`), f),
  planned: (feed, f) => {
    const text = JSON.stringify(f.steps);
    if (text === feed.plan) return;
    feed.plan = text;
    const done = f.steps.filter((step) => step.state === "done").length;
    const doing = f.steps.find((step) => step.state === "doing");
    feed.put(quiet("list", h("b", "Plan"), ` ${done} of ${f.steps.length} done`, doing ? ` · now: ${doing.text}` : ""));
  },
  published: (feed, f) => {
    const link =
      f.what === "report"
        ? h("button.link", { onclick: feed.acts.openReport }, "Read the report")
        : h("span.mono", f.where);
    feed.put(quiet("file", `${f.what === "report" ? "The report is written." : `Published ${f.what}:`} `, link));
  },
  compacted: (feed) => feed.put(quiet("minus", "Earlier messages are summarised for the model; nothing is lost here.")),
  renamed: (feed, f) => feed.put(quiet("pencil", `Renamed by ${f.by}: ${f.title}`)),
  shared: (feed, f) =>
    feed.put(quiet("info", f.public ? `Shared by ${f.by}: anybody may watch it as a replay` : `Made private by ${f.by}`)),
  tuned: (feed, f) => feed.put(quiet("pencil", `Changed by ${f.by}: ${words.terms(f)}`)),
  undone: (feed, f) => feed.put(quiet("minus", `The last turn was taken back by ${f.by}: the model forgets it.`)),
  halted: (feed, f) => feed.put(quiet("stop", `Stopped by ${f.by}${f.reason ? `: ${f.reason}` : ""}`)),
  closed: (feed, f) => {
    const [label, tone] = words.outcome(f.outcome);
    feed.put(
      h(`div.ending.${tone}`, h("div.ending-head", pill(label, tone)), h("div.ending-text", markdown(f.reason))),
    );
  },
};

/** Every kind of fact that has a reader; a test compares it with record.events. */
export const KINDS = Object.keys(READERS);

function redecide(feed, call, state) {
  const asked = state.asked.get(call);
  if (asked && feed.cards.has(call)) feed.swap(feed.cards, call, decision(asked, state, feed.acts.decide));
}

function jobRow(job) {
  const ended = job.ended;
  const failed = ended && (ended.state === "failed" || ended.state === "timeout");
  const steps = job.steps ? `${job.step} / ${job.steps}` : job.step ? `step ${job.step}` : "queued";
  const latest = words.metricOrder(Object.keys(job.values)).slice(0, 2);
  const values = latest.map((name) => `${words.metric(name)[0].toLowerCase()} ${words.number(job.values[name])}`);
  const end = ended ? words.seconds(ended.seconds) : job.eta ? `${words.seconds(job.eta)} left` : steps;
  const details = () => [
    h("div.job-line", [job.machine, steps, ...values].join(" · ")),
    ended?.reason ? h("pre.output", { tabindex: 0 }, ended.reason) : null,
    h("pre.given", { tabindex: 0 }, JSON.stringify(job.config, null, 2)),
  ];
  const element = row({
    mark: ended ? icon(failed ? "cross" : ended.state === "done" ? "check" : "minus") : spinner(),
    name: job.attempt > 1 ? `${job.job}, attempt ${job.attempt}` : job.job,
    about: job.idea || job.recipe,
    end,
    body: details,
    open: Boolean(failed),
    tone: failed ? "error" : ended ? "ok" : "running",
  });
  element.classList.add("job-row");
  if (!ended) element.querySelector("summary").append(bar(job));
  return element;
}

export function finding(f) {
  const level = LEVELS[f.level] ?? "info";
  const head = h(
    "div.finding-head",
    icon(level === "info" ? "info" : "warn"),
    h("span.finding-rule", f.rule.replaceAll("_", " ")),
    f.job ? h("span.mono", f.job) : null,
  );
  return h(
    `div.finding.${level}`,
    head,
    h("div.finding-what", f.what),
    f.advice ? h("div.finding-advice", f.advice) : null,
  );
}

export function verdict(f) {
  const keep = f.verdict === "keep";
  const change =
    f.delta === null
      ? ""
      : `${words.signed(f.delta)} on dev${f.low === null ? "" : ` [${words.signed(f.low)}, ${words.signed(f.high)}]`}`;
  const p = f.p === null ? "" : ` · p ${f.p < 0.001 ? "< 0.001" : `= ${f.p.toFixed(3)}`}`;
  const head = h(
    "div.verdict-head",
    icon(keep ? "check" : "cross"),
    h("b", keep ? "Keep" : f.verdict === "crash" ? "Crash" : "Discard"),
    h("span.mono", f.model),
    h("span.verdict-change", change + p),
  );
  return h(`div.verdict.${keep ? "keep" : "discard"}`, head, h("div.verdict-why", f.reason));
}
