// Facts to state: the page's counterpart of record/views.py. Pure; a fact of an unknown kind changes nothing.

export class State {
  constructor() {
    Object.assign(this, {
      seq: 0, opened: null, closed: null, halted: null, saidAt: 0, readUpto: 0, overheard: false, now: null,
      jobs: new Map(), scores: [], promotions: [], findings: [], published: [],
      plan: [], best: "base", asked: new Map(), decided: new Map(), finished: new Map(), started: new Map(),
      worked: 0, worksSince: null, // ms of wall clock: it stands still between an ending and the next message
      title: "", public: false, budget: null, approval: "auto", driver: "", effort: null,
      dollars: 0, tokens: 0, unpriced: 0, uncounted: 0, replies: 0, scouted: 0, jobSeconds: 0,
    });
  }

  /** Take one more fact in; false when it is known already. */
  add(fact) {
    if (fact.seq <= this.seq) return false;
    this.seq = fact.seq;
    this.now = fact.at;
    FOLDS[fact.kind]?.(this, fact);
    return true;
  }

  /** As in record/views.py: words that come while a session ends are not lost. */
  get active() {
    if (this.opened === null) return false;
    const halted = this.halted?.seq ?? 0;
    if (this.closed === null) return halted === 0 || this.saidAt > halted;
    if (this.closed.outcome === "stopped" && halted) return this.saidAt > halted;
    if (["done", "needs_person"].includes(this.closed.outcome) && this.closed.seq > halted && this.overheard) return true;
    return this.saidAt > Math.max(this.closed.seq, halted);
  }

  /** Seconds of wall clock that the session has worked. */
  elapsed(now) {
    return (this.worked + (this.worksSince === null ? 0 : Math.max(0, now - this.worksSince))) / 1000;
  }

  get waiting() {
    return [...this.asked.values()].filter((a) => !this.decided.has(a.call) && !this.finished.has(a.call));
  }

  get status() {
    if (this.active) return this.waiting.length ? "waiting for you" : "working";
    return this.closed && this.closed.seq > (this.halted?.seq ?? 0) ? this.closed.outcome : "stopped";
  }

  /** Dollars spent, as far as they are known; null when nothing is known of what was paid. */
  get paid() {
    const unknown = this.unpriced > 0 || [...this.jobs.values()].some((job) => job.ended && job.ended.dollars == null);
    return this.dollars === 0 && unknown ? null : this.dollars;
  }

  /** The latest sealed score of a model on a split. */
  score(model, split) {
    return this.scores.findLast((s) => s.model === model && s.split === split) ?? null;
  }

  /** Jobs that have metrics over their steps: the curves. */
  get runs() {
    return [...this.jobs.values()].filter((job) => job.points.length > 0);
  }
}

function rest(s, f) {
  s.worked = 1000 * s.elapsed(Date.parse(f.at));
  s.worksSince = null;
}

const FOLDS = {
  opened: (s, f) =>
    Object.assign(s, { opened: f, title: f.goal.text, budget: f.budget, approval: f.approval, driver: f.driver, worksSince: Date.parse(f.at) }),
  said: (s, f) => {
    s.saidAt = f.seq;
    s.worksSince ??= Date.parse(f.at);
  },
  replied: (s, f) => {
    s.replies += 1;
    if (f.who === "main") Object.assign(s, { readUpto: f.upto ?? f.seq, overheard: false });
    else s.scouted += 1;
    s.tokens += (f.tokens_in ?? 0) + (f.tokens_out ?? 0);
    s.dollars += f.dollars ?? 0;
    s.unpriced += f.dollars === null ? 1 : 0;
    s.uncounted += f.tokens_in === null && f.tokens_out === null ? 1 : 0;
  },
  compacted: (s, f) => {
    s.tokens += (f.tokens_in ?? 0) + (f.tokens_out ?? 0);
    s.dollars += f.dollars ?? 0;
    s.unpriced += f.dollars === null ? 1 : 0;
  },
  started: (s, f) => s.started.set(f.call, f),
  finished: (s, f) => s.finished.set(f.call, f),
  asked: (s, f) => s.asked.set(f.call, f),
  decided: (s, f) => s.decided.set(f.call, f),
  launched: (s, f) => {
    const fresh = { points: [], findings: [], step: 0, steps: null, values: {}, measured: {} };
    const attempt = { place: null, held: "", starts: null, began: null, eta: null, ended: null };
    s.jobs.set(f.job, { ...fresh, ...s.jobs.get(f.job), ...f, ...attempt }); // an earlier attempt's curve goes on
  },
  queued: (s, f) => {
    const job = s.jobs.get(f.job);
    if (!job) return;
    const starts = f.eta_s == null ? null : Date.parse(f.at) + 1000 * f.eta_s;
    Object.assign(job, { place: f.place, held: f.reason ?? "", starts, began: f.place > 0 || f.reason ? null : f.at });
    if (f.reason) job.eta = null;
  },
  progressed: (s, f) => {
    const job = s.jobs.get(f.job);
    if (!job) return;
    Object.assign(job, { step: f.step, steps: f.steps ?? job.steps, eta: f.eta_s });
    Object.assign(job.values, f.values);
    Object.assign(job.measured, f.measured);
    job.points.push({ step: f.step, values: f.values });
  },
  found: (s, f) => {
    const job = s.jobs.get(f.job);
    s.findings.push(f);
    job?.findings.push({ ...f, step: f.evidence.step ?? job.step });
  },
  ended: (s, f) => {
    const job = s.jobs.get(f.job);
    if (job) Object.assign(job, { ended: f, eta: null });
    s.dollars += f.dollars ?? 0;
    s.jobSeconds += f.seconds;
  },
  scored: (s, f) => s.scores.push(f),
  promoted: (s, f) => {
    s.promotions.push(f);
    if (f.verdict === "keep") s.best = f.model;
  },
  planned: (s, f) => (s.plan = f.steps),
  published: (s, f) => s.published.push(f),
  halted: (s, f) => {
    s.halted = f;
    rest(s, f);
  },
  renamed: (s, f) => (s.title = f.title),
  shared: (s, f) => (s.public = f.public),
  tuned: (s, f) => {
    for (const term of ["budget", "approval", "driver"]) if (f[term] != null) s[term] = f[term];
    if (f.effort != null) s.effort = f.effort === "default" ? null : f.effort;
  },
  closed: (s, f) => {
    s.closed = f;
    s.overheard = s.saidAt > s.readUpto;
    if (!s.active) rest(s, f);
  },
};
