// The right pane: four tabs over the same state. Live and Jobs are drawn from facts; files and the report are fetched.

import { api } from "./api.js";
import { Curves } from "./curves.js";
import { h, icon, redraw } from "./dom.js";
import { Files } from "./files.js";
import { Jobs } from "./jobs.js";
import { markdown } from "./markdown.js";
import * as panels from "./panels.js";
import { scores } from "./scores.js";
import { spend } from "./spend.js";

const TABS = ["Live", "Jobs", "Files", "Report"];
const LIVE = ["tiles", "spend", "plan", "ideas", "scores", "findings"];
const SLICE = 12; // ms of drawing at a time, so that no task comes near the 50 ms that a person feels
const LOOKS = 3; // at a report after its last fact: it is written a moment later
const BEAT = 3000; // ms between looks at what no fact says: the clock, the end of an open log

export class Work {
  /** `now` is the time in ms that a running session has come to; a replay gives its own. A `recorded` one asks for nothing. */
  constructor(root, session, { now = () => Date.now(), recorded = false, trackio = !recorded } = {}) {
    Object.assign(this, { session, now, recorded, reportAt: null, looks: 0, tab: "Live", state: null, whole: new Set() });
    this.curves = new Curves();
    this.files = new Files(session);
    this.jobs = new Jobs(session, recorded);
    this.slots = Object.fromEntries([...LIVE, "kept", "Report"].map((name) => [name, h("div.slot")]));
    const { tiles, ...rest } = this.slots;
    this.panes = {
      Live: h("div.pane", tiles, rest.kept, this.curves.element, LIVE.slice(1).map((name) => rest[name])),
      Jobs: h("div.pane", this.jobs.element),
      Files: h("div.pane", this.files.element),
      Report: h("div.pane", this.slots.Report),
    };
    this.tabs = TABS.filter((name) => !recorded || name !== "Files");
    this.buttons = this.tabs.map((name) => this.button(name));
    for (const [name, pane] of Object.entries(this.panes)) {
      const about = { role: "tabpanel", id: `ml-pane-${name}`, "aria-labelledby": `ml-tab-${name}`, tabindex: "0" };
      for (const attribute of Object.entries(about)) pane.setAttribute(...attribute);
    }
    this.bar = h("div.tabs", { role: "tablist", "aria-label": "work" }, this.buttons);
    root.replaceChildren(this.bar, ...Object.values(this.panes));
    new ResizeObserver(() => this.state && this.draw(this.state)).observe(this.bar);
    this.show("Live");
    if (!recorded) this.drawKept();
    if (trackio) this.curves.foot.append(this.dashboard());
    const beat = setInterval(() => (this.bar.isConnected ? this.beat() : clearInterval(beat)), BEAT);
  }

  dashboard() {
    const href = `/trackio/?project=${encodeURIComponent(this.session)}`;
    return h("a.button.trackio", { href, target: "_blank", rel: "noopener" }, icon("chart"), "Open in Trackio");
  }

  button(name) {
    const about = { role: "tab", id: `ml-tab-${name}`, "aria-controls": `ml-pane-${name}`, type: "button" };
    const button = h("button.tab", { ...about, onclick: () => this.show(name) }, name);
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      this.show(this.tabs[(this.tabs.indexOf(name) + step + this.tabs.length) % this.tabs.length]);
      this.buttons[this.tabs.indexOf(this.tab)].focus();
    });
    return button;
  }

  show(name) {
    this.tab = name;
    this.buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(this.tabs[i] === name));
      button.tabIndex = this.tabs[i] === name ? 0 : -1;
    });
    for (const [tab, pane] of Object.entries(this.panes)) pane.hidden = tab !== name;
    if (name === "Files") this.files.load();
    if (this.state) this.draw(this.state);
    if (name === "Jobs") this.beat();
  }

  /** Show one file of the session. */
  open(path) {
    this.show("Files");
    this.files.open(path);
  }

  /** Nothing is drawn where nobody sees it: behind the other pane of a phone. It is when it comes into sight. */
  draw(state) {
    this.state = state;
    if (!this.bar.checkVisibility()) return;
    if (this.tab === "Live") this.drawLive(state);
    else if (this.tab === "Jobs") this.jobs.draw(state);
    else if (this.tab === "Report") this.drawReport(state);
  }

  /** What changes without a fact. */
  beat() {
    if (document.hidden || !this.state) return;
    if (this.tab === "Live" && this.state.active) this.drawSpend(this.state);
    if (this.tab === "Live" && !this.recorded && this.bar.checkVisibility()) this.drawKept();
    if (this.tab === "Jobs" && !this.recorded) this.jobs.follow();
    if (this.tab === "Report" && this.looks > 0) this.readReport(this.reportAt);
  }

  /** What is at the top comes first; what takes longer than a slice comes in a task of its own. */
  drawLive(state) {
    const { tiles, plan } = this.slots;
    const jobs = [...state.jobs.values()];
    const live = jobs.findLast((job) => !job.ended);
    const measured = [state.scores.length, state.best];
    const steps = [jobs.length, live?.job, live?.step, live?.steps];
    const open = this.recorded ? null : (path) => this.open(path);
    const [trials, table, told] = ["ideas", "scores", "findings"].map((name) => this.list(name));
    this.inSlices([
      () => redraw(tiles, [measured, steps, state.promotions.length, state.paid, state.tokens], () => panels.tiles(state)),
      () => this.drawSpend(state),
      () => this.curves.draw(state),
      () => redraw(plan, [state.plan, state.active], () => panels.plan(state)),
      () => this.drawList("ideas", [state.promotions.length, trials.whole], () => panels.ideas(state, trials)),
      () => this.drawList("scores", [measured, table.whole], () => scores(state, open, table)),
      () => this.drawList("findings", [state.findings.length, told.whole], () => panels.findings(state, told)),
    ]);
  }

  /** Whether a person wants all lines of a panel, and how they say so. */
  list(name) {
    const more = () => {
      this.whole.add(name);
      this.asked = name;
      this.draw(this.state);
    };
    return { whole: this.whole.has(name), more };
  }

  /** Draw a panel with a list. Who asked for all of it has the keyboard in it: the button that had it is gone. */
  drawList(name, key, make) {
    redraw(this.slots[name], key, make);
    if (this.asked !== name) return;
    this.asked = null;
    this.slots[name].querySelector("section")?.focus({ preventScroll: true });
  }

  /** A later drawing takes over from an earlier one. */
  inSlices(parts) {
    clearTimeout(this.drawing);
    const until = performance.now() + SLICE;
    while (parts.length && performance.now() < until) parts.shift()();
    if (parts.length) this.drawing = setTimeout(() => this.inSlices(parts), 0);
  }

  drawSpend(state) {
    const made = spend(state, this.now());
    redraw(this.slots.spend, [made.innerHTML], () => made);
  }

  /** Whether its work is kept elsewhere: what is not known is said to be unknown. */
  async drawKept() {
    const unknown = { state: "unknown", said: "Whether this session is kept is not known: the server does not say.", where: "" };
    const there = await api.kept(this.session).catch(() => unknown);
    redraw(this.slots.kept, there, () => panels.kept(there));
  }

  /** The report is written when the session closes, and once more when the last of its jobs has ended. */
  drawReport(state) {
    const published = state.published.findLast((p) => p.what === "report")?.seq ?? 0;
    const ends = [...state.jobs.values()].map((job) => job.ended?.seq ?? 0);
    const at = published && Math.max(published, state.closed?.seq ?? 0, ...ends);
    if (this.reportAt === at) return;
    Object.assign(this, { reportAt: at, looks: at ? LOOKS : 0 });
    this.readReport(at);
  }

  async readReport(at) {
    const here = `/api/sessions/${this.session}`;
    const save = (href, name, label) => h("a.button", { href, download: name }, icon("download"), label);
    const buttons = [save(`${here}/log`, "", "Log (JSONL)")];
    let text = "There is no report yet: it is written when the session ends.";
    let body = () => h("div.empty", text);
    if (at) {
      try {
        text = await api.report(this.session);
        body = () => h("article.report", markdown(text, (target) => `${here}/download/${target}`));
        buttons.unshift(save(`${here}/report`, "report.md", "Report"));
        this.looks -= 1;
      } catch (error) {
        text = error.message; // the next beat tries again
      }
    }
    if (this.reportAt === at) redraw(this.slots.Report, [buttons.length, text], () => [h("div.report-bar", buttons), body()]);
  }
}
