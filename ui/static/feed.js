// The transcript: one reader for each kind of fact. A kind without a reader is shown as its name and breaks nothing.

import { decision } from "./approval.js";
import { block } from "./code.js";
import { h, icon, unfolding } from "./dom.js";
import { markdown } from "./markdown.js";
import { pill, progress, quiet, row, spinner, toolRow } from "./rows.js";
import { Scout, SCOUTED } from "./scouts.js";
import { terminal } from "./terminal.js";
import { Typed } from "./typed.js";
import * as words from "./words.js";

const SILENT = new Set(["plan", "note", "promote", "final_answer"]); // tools whose own fact says it better
const PART = /\n\[\d+ more characters: read on from \d+\]$/; // how read_file ends when there is more

/** Whether nothing is being written after this fact: what a scout says ends nothing of the driver's. */
export const answers = ({ kind, who }) => kind === "halted" || kind === "closed" || (kind === "replied" && who === "main");

export class Feed {
  /** `transcript` is the window that the feed grows in; `acts` are {decide, openReport, fork}, the last null where nobody may. */
  constructor(transcript, acts) {
    Object.assign(this, {
      transcript,
      acts,
      calls: new Map(),
      jobs: new Map(),
      cards: new Map(),
      files: new Map(), // path -> the last content that a call wrote or read whole
      before: new Map(), // call that wrote a file -> what was known of the file
      plan: "",
      jobsToDraw: new Set(),
      typed: new Typed(transcript.typed),
      scouts: new Map(),
      scout: null, // whose fact is being read, when it belongs to what a scout does
    });
  }

  /** Take one more fact. `state` has it already. Nothing is drawn before `settle`. */
  add(fact, state) {
    const reader = READERS[fact.kind];
    this.answered ||= answers(fact);
    this.scout = fact.who !== "main" && SCOUTED.has(fact.kind) ? this.scoutOf(fact.who) : null;
    if (reader) reader(this, fact, state);
    else this.put(() => quiet("info", `A fact of a kind that this page does not know: ${fact.kind}`));
  }

  /** The card of a scout; a new one stands at the end. */
  scoutOf(name) {
    if (!this.scouts.has(name)) this.scouts.set(name, new Scout(this.transcript, name));
    return this.scouts.get(name);
  }

  /** Put what `make` makes at the end, marked with who it comes from when that is a scout. */
  put(make, fact = null) {
    if (this.scout) return this.scout.put(make);
    return this.transcript.put(() => {
      const element = make();
      if (fact && fact.who !== "main") element.prepend(h("span.who", fact.who));
      return element;
    });
  }

  putRow(make) {
    return (this.scout ?? this.transcript).putRow(make);
  }

  questionInSight() {
    const card = this.transcript.list.querySelector(".ask.open")?.getBoundingClientRect();
    const frame = this.transcript.list.parentElement.getBoundingClientRect();
    return Boolean(card && card.height && card.bottom > frame.top && card.top < frame.bottom);
  }

  /** Bring the question that waits for the person into sight. */
  showQuestion() {
    const card = this.transcript.list.querySelector(".ask.open");
    card?.scrollIntoView({ block: "center" });
    card?.querySelector(".approve")?.focus();
  }

  /** Draw what is new, and the jobs that moved: once a frame, however many facts there were. */
  settle() {
    for (const id of this.jobsToDraw) this.jobs.get(id)?.refresh();
    this.jobsToDraw.clear();
    this.transcript.flush();
    if (this.answered) this.typed.show("", ""); // in the same frame as what takes its place
    this.answered = false;
  }

  /** Show a reply as it is being written. The `replied` fact, which has all of it, takes its place. */
  typing(text, thought = "") {
    this.typed.show(text, thought);
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
    feed.put(() => h("div.said", forking(feed, f), h("div.bubble", goal.text)));
    feed.put(() => h("div.meta", facts.filter(Boolean).join(" · ")));
  },
  said: (feed, f) =>
    feed.put(() =>
      h("div.said", forking(feed, f), f.by === "local" ? null : h("span.who", f.by), h("div.bubble", f.text)),
    ),
  replied: (feed, f) => {
    const open = f.who === "main" && feed.typed.thinks && feed.typed.thought.open; // who reads along reads on
    if (f.thought) feed.put(() => thought(f, open), f);
    if (f.text) feed.put(() => h("div.reply", markdown(f.text)), f);
  },
  started: (feed, f, state) => {
    if (SILENT.has(f.name)) return;
    const make = () => toolRow(f, state.finished.get(f.call) ?? null, feed.before.get(f.call) ?? null);
    feed.calls.set(f.call, feed.putRow(make));
  },
  finished: (feed, f, state) => {
    const started = state.started.get(f.call) ?? { name: f.name, arguments: {} };
    if (f.ok) learn(feed, started, f);
    if (feed.calls.has(f.call)) feed.calls.get(f.call).refresh();
    else if (!f.ok) feed.putRow(() => toolRow(started, f)); // an error is shown whatever the tool
    feed.cards.get(f.call)?.refresh();
  },
  asked: (feed, f, state) => {
    const spent = state.dollars; // now: a card that is made later says the same
    feed.cards.set(f.call, feed.put(() => decision(f, state, feed.acts.decide, spent)));
  },
  decided: (feed, f, state) => {
    feed.cards.get(f.call)?.refresh();
    const name = state.asked.get(f.call)?.name ?? f.call;
    const edited = f.arguments ? ", with changes" : "";
    const verb = f.allow ? "Approved" : "Denied";
    feed.put(() => quiet(f.allow ? "check" : "cross", `${verb} by ${f.by}: ${name}${edited}`));
  },
  launched: (feed, f, state) => {
    const about = `goes on as attempt ${f.attempt}`;
    feed.jobs.get(f.job)?.refresh(() => row({ mark: icon("minus"), name: f.job, about, tone: "over" }));
    feed.jobs.set(
      f.job,
      feed.putRow(() => jobRow(state.jobs.get(f.job))),
    );
  },
  queued: (feed, f) => feed.jobsToDraw.add(f.job),
  progressed: (feed, f) => feed.jobsToDraw.add(f.job),
  ended: (feed, f) => feed.jobsToDraw.add(f.job),
  found: (feed, f) => feed.put(() => finding(f), f),
  scored: (feed, f) =>
    feed.putRow(() =>
      row({
        mark: icon("scale"),
        name: `${f.model} on ${f.split === "heldout" ? "held-out" : f.split}`,
        about: f.metric,
        end: h("span.score", h("b", f.value.toFixed(3)), ` [${f.low.toFixed(2)}, ${f.high.toFixed(2)}] n=${f.n}`),
        tone: "scored",
      }),
    ),
  promoted: (feed, f) => feed.put(() => verdict(f), f),
  noted: (feed, f) => feed.put(() => quiet("pencil", h("b", f.topic), ` ${f.text}`), f),
  planned: (feed, f) => {
    const text = JSON.stringify(f.steps);
    if (text === feed.plan) return;
    feed.plan = text;
    const done = f.steps.filter((step) => step.state === "done").length;
    const doing = f.steps.find((step) => step.state === "doing");
    const now = doing ? ` · now: ${doing.text}` : "";
    feed.put(() => quiet("list", h("b", "Plan"), ` ${done} of ${f.steps.length} done`, now));
  },
  published: (feed, f) => {
    const hub = /^https?:\/\//.test(f.where);
    if (f.what === "report" && !hub) {
      const read = () => h("button.link", { type: "button", onclick: feed.acts.openReport }, "Read the report");
      feed.put(() => quiet("file", "The report is written. ", read()));
      return;
    }
    const href = hub ? f.where.replace(/(\/spaces\/.+)\/commit\/\w+$/, "$1") : null;
    const name = hub ? f.where.replace(/^https:\/\/huggingface\.co\/((datasets|spaces)\/)?(?=\w)/, "").replace(/\/commit\/(\w{7})\w*$/, " at $1") : f.where;
    const place = () => h(hub ? "a.mono" : "span.mono", { href, title: hub && f.where, target: hub && "_blank", rel: hub && "noopener noreferrer" }, name);
    feed.put(() => quiet("file", `Published ${f.what}: `, place()));
  },
  compacted: (feed) => feed.put(() => quiet("compact", "Earlier messages are summarised for the model; nothing is lost here.")),
  requested: (feed, f) =>
    feed.put(() =>
      f.what === "stop_job"
        ? quiet("stop", `${f.job} is to stop, said ${f.by}`)
        : quiet("compact", `${f.by} asked to shorten the model's memory`),
    ),
  renamed: (feed, f) => feed.put(() => quiet("pencil", `Renamed by ${f.by}: ${f.title}`)),
  shared: (feed, f) =>
    feed.put(() => quiet("info", f.public ? `Shared by ${f.by}: anybody may watch it as a replay` : `Made private by ${f.by}`)),
  tuned: (feed, f) => feed.put(() => quiet("pencil", `Changed by ${f.by}: ${words.terms(f)}`)),
  undone: (feed, f) => feed.put(() => quiet("minus", `The last turn was taken back by ${f.by}: the model forgets it.`)),
  halted: (feed, f) => feed.put(() => quiet("stop", `Stopped by ${f.by}${f.reason ? `: ${f.reason}` : ""}`)),
  closed: (feed, f) => {
    const [label, tone] = words.outcome(f.outcome);
    feed.put(() =>
      h(`div.ending.${tone}`, h("div.ending-head", pill(label, tone)), h("div.ending-text", markdown(f.reason))),
    );
  },
};

/** Every kind of fact that has a reader; a test compares it with record.events. */
export const KINDS = Object.keys(READERS);

/** Remember what a call tells about a file, so that the next write of it can show what it changed. */
function learn(feed, started, finished) {
  const { path, text, start } = started.arguments;
  if (started.name === "write_file" && typeof text === "string") {
    feed.before.set(finished.call, feed.files.get(path) ?? null);
    feed.files.set(path, text);
  } else if (started.name === "read_file" && !start && !PART.test(finished.output)) {
    feed.files.set(path, finished.output);
  }
}

/** A new session from here on: it has this message, and its driver knows nothing of what came after. */
function forking(feed, f) {
  if (!feed.acts.fork) return null;
  const label = "Fork from here";
  return h("button.fork", { type: "button", "aria-label": label, title: label, onclick: () => feed.acts.fork(f.seq) }, icon("fork"));
}

function thought(f, open) {
  const label = `Thought${f.seconds >= 1 ? ` for ${words.seconds(f.seconds)}` : ""}`;
  const summary = h("summary", icon("spark"), label, icon("chevron", "turn"));
  return unfolding("details.thought", summary, h("div.thought-text"), () => markdown(f.thought), open);
}

function jobRow(job) {
  const ended = job.ended;
  const failed = ended && (ended.state === "failed" || ended.state === "timeout");
  const waits = job.held ? words.held(job.held) : job.place ? `queued, ${job.place} before it` : "queued";
  const before = job.place === 0 && !job.held ? "starting" : waits;
  const steps = job.place > 0 || job.held || !(job.step || job.steps) ? before : job.steps ? `${job.step} / ${job.steps}` : `step ${job.step}`;
  const latest = words.metricOrder(Object.keys(job.values)).slice(0, 2);
  const values = latest.map((name) => `${words.metric(name)[0].toLowerCase()} ${words.number(job.values[name])}`);
  const end = ended ? words.seconds(ended.seconds) : job.eta ? `${words.seconds(job.eta)} left` : steps;
  const details = () => [
    h("div.job-line", [job.machine, steps, ...values].join(" · ")),
    ...(ended?.reason ? terminal({ output: ended.reason }) : []),
    block(JSON.stringify(job.config, null, 2), "json", `settings of ${job.job}`),
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
  if (!ended) element.querySelector("summary").append(progress(job));
  return element;
}

export function finding(f) {
  const head = h(
    "div.finding-head",
    icon(f.level === "info" ? "info" : "warn"),
    h("span.finding-rule", f.rule.replaceAll("_", " ")),
    f.job ? h("span.mono", f.job) : null,
  );
  return h(
    `div.finding.${f.level}`,
    head,
    h("div.finding-what", f.what),
    f.advice ? h("div.finding-advice", f.advice) : null,
    words.offer(f.evidence?.ablation).map((change) => h("div.finding-offer", change)),
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
