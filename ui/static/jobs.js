// A card a job, kept while the job changes: what a person opened stays open, and what has the focus keeps it.

import { api } from "./api.js";
import { h, icon, redraw } from "./dom.js";
import { finding } from "./feed.js";
import { pill, progress } from "./rows.js";
import * as words from "./words.js";

const SURE = 4000; // ms in which a second press means it

export class Jobs {
  /** `readOnly`: nobody can stop anything here. */
  constructor(session, readOnly) {
    Object.assign(this, { session, readOnly, cards: new Map() });
    this.empty = h("div.empty", "No job has run yet.");
    this.element = h("div.jobs", this.empty);
  }

  draw(state) {
    for (const job of state.jobs.values()) {
      if (!this.cards.has(job.job)) {
        const card = new Card(this.session, job.job, this.readOnly);
        this.cards.set(job.job, card);
        this.element.prepend(card.element); // the newest on top
      }
      this.cards.get(job.job).draw(job, state);
    }
    this.empty.hidden = this.cards.size > 0;
  }

  /** What the open logs say now. */
  follow() {
    for (const card of this.cards.values()) if (card.log.open && !card.over) card.read();
  }
}

class Card {
  constructor(session, job, readOnly) {
    Object.assign(this, { session, job, over: false, stopping: null });
    this.slots = Object.fromEntries(["state", "facts", "bar", "why", "findings", "settings"].map((n) => [n, h("div.slot")]));
    this.stop = h("button.plain.job-stop", { type: "button", onclick: () => this.press() }, icon("stop"), h("span", "Stop"));
    this.stop.hidden = readOnly;
    this.readOnly = readOnly;
    this.trouble = h("div.job-reason", { role: "alert" });
    this.output = h("pre.output", { tabindex: 0, "aria-label": `log of ${job}` });
    this.log = h("details.job-config", { ontoggle: () => this.log.open && this.read() }, summary("Log"), this.output);
    this.log.hidden = readOnly;
    this.config = h("pre.given", { tabindex: 0, "aria-label": `settings of ${job}` });
    const head = h("div.job-head", h("span.mono.job-name", job), this.slots.state, h("span.grow"), this.stop);
    const { facts, why, findings } = this.slots;
    const settings = h("details.job-config", summary("Settings"), this.config);
    const rest = [facts, this.slots.bar, why, this.trouble, findings, h("div.job-more", settings, this.log)];
    this.element = h("section.card.job", { "aria-label": job }, head, ...rest);
  }

  draw(job, state) {
    const [label, tone] = standing(job);
    this.over = Boolean(job.ended);
    this.stop.hidden = this.readOnly || this.over;
    if (this.over) this.calm();
    redraw(this.slots.state, [label, tone, job.attempt], () => [
      pill(label, tone),
      job.attempt > 1 ? h("span.hint", `attempt ${job.attempt}`) : null,
    ]);
    const lines = facts(job);
    const seen = measured(job);
    redraw(this.slots.facts, [job.idea, lines, seen], () => [
      job.idea ? h("div.job-idea", job.idea) : null,
      h("dl.job-facts", lines.map(([name, value]) => h("div", h("dt", name), h("dd", value)))),
      seen ? h("div.hint.job-measured", seen) : null,
    ]);
    redraw(this.slots.bar, [job.step, job.steps, this.over], () => progress(job));
    const why = this.over ? job.ended.reason : job.held;
    redraw(this.slots.why, [why], () => (why ? h("div.job-reason", why) : null));
    const told = job.findings.filter((f) => f.level !== "info");
    redraw(this.slots.findings, [told.map((f) => f.seq)], () => told.map(finding));
    const config = JSON.stringify(job.config, null, 2);
    if (this.config.textContent !== config) this.config.textContent = config;
  }

  /** The first press asks, the second stops. */
  async press() {
    if (this.stopping === null) {
      this.say("Stop it now?");
      this.stop.classList.add("sure");
      this.stopping = setTimeout(() => this.calm(), SURE);
      return;
    }
    clearTimeout(this.stopping);
    this.stop.disabled = true;
    this.say("Stopping…");
    try {
      await api.stopJob(this.session, this.job);
      this.trouble.textContent = "";
    } catch (error) {
      this.trouble.textContent = error.message;
      this.calm();
    }
  }

  calm() {
    clearTimeout(this.stopping);
    this.stopping = null;
    this.stop.disabled = false;
    this.stop.classList.remove("sure");
    this.say("Stop");
  }

  say(text) {
    this.stop.lastChild.textContent = text;
    this.stop.setAttribute("aria-label", `${text} (${this.job})`);
  }

  async read() {
    try {
      const { text, size } = await api.log(this.session, this.job);
      const end = this.output.scrollHeight - this.output.scrollTop - this.output.clientHeight < 24;
      const said = size ? text : "It has printed nothing yet.";
      if (this.output.textContent !== said) this.output.textContent = said;
      if (end) this.output.scrollTop = this.output.scrollHeight;
    } catch (error) {
      this.output.textContent = error.message;
    }
  }
}

const summary = (name) => h("summary", name, icon("chevron", "turn"));

function standing(job) {
  if (job.ended) return words.JOB_STATES[job.ended.state];
  if (job.place > 0) return [`Queued, ${job.place} before it`, "wait"];
  if (job.held) return [words.held(job.held).replace(/^./, (first) => first.toUpperCase()), "wait"];
  return job.place === null && !job.step ? ["Queued", "wait"] : ["Running", "busy"];
}

function facts(job) {
  const values = words.metricOrder(Object.keys(job.values)).slice(0, 3);
  const left = job.ended
    ? ["Took", words.seconds(job.ended.seconds)]
    : job.place > 0 || (job.held && !job.step)
      ? ["Starts", job.starts === null ? "unknown" : `about ${words.clock(job.starts)}`]
      : ["Left", job.eta == null ? "unknown" : words.seconds(job.eta)];
  return [
    ["Step", job.steps ? `${words.number(job.step)} of ${words.number(job.steps)}` : words.number(job.step)],
    left,
    ["Cost", cost(job)],
    ["Machine", job.machine],
    ["Recipe", job.recipe],
    ...values.map((name) => [words.metric(name)[0], words.number(job.values[name])]),
  ];
}

/** What the trainer has measured before its first step, for the whole run, in one line; "" where it has not. */
function measured({ measured: seen, price }) {
  const { peak_mb: peak, tokens_per_second_worst: pace, eta_s: takes } = seen;
  const parts = [
    words.finite(peak) && `${(peak / 1024).toFixed(1)} GiB peak`,
    words.finite(pace) && `${words.number(Math.round(pace))} tokens/s`,
    words.finite(takes) && `about ${words.seconds(takes)}`,
    words.finite(takes) && price && words.dollars((price * takes) / 3600),
  ].filter(Boolean);
  return parts.length ? `Measured: ${parts.join(" · ")}` : "";
}

function cost(job) {
  if (job.ended) return words.dollars(job.ended.dollars);
  return job.price === null ? "price unknown" : job.price ? `at most ${words.dollars(job.price * job.hours)}` : "free";
}
