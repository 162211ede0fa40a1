// The right pane: three tabs over the same state. Live and Jobs are drawn from facts; the report is fetched.

import { api } from "./api.js";
import { Curves } from "./curves.js";
import { h, icon, redraw } from "./dom.js";
import { markdown } from "./markdown.js";
import * as panels from "./panels.js";

const TABS = ["Live", "Jobs", "Report"];

export class Work {
  constructor(root, session) {
    this.session = session;
    this.reportAt = null;
    this.tab = "Live";
    this.curves = new Curves();
    this.slots = Object.fromEntries(
      ["tiles", "plan", "ideas", "scores", "findings", "Jobs", "Report"].map((name) => [name, h("div.slot")]),
    );
    const { tiles, plan, ideas, scores, findings } = this.slots;
    this.panes = {
      Live: h("div.pane", tiles, this.curves.element, plan, ideas, scores, findings),
      Jobs: h("div.pane", this.slots.Jobs),
      Report: h("div.pane", this.slots.Report),
    };
    this.buttons = TABS.map((name) => this.button(name));
    for (const name of TABS) {
      const pane = this.panes[name];
      Object.entries({
        role: "tabpanel",
        id: `ml-pane-${name}`,
        "aria-labelledby": `ml-tab-${name}`,
        tabindex: "0",
      }).forEach((a) => pane.setAttribute(...a));
    }
    root.replaceChildren(
      h("div.tabs", { role: "tablist", "aria-label": "work" }, this.buttons),
      ...Object.values(this.panes),
    );
    this.show("Live");
  }

  button(name) {
    const button = h(
      "button.tab",
      {
        role: "tab",
        id: `ml-tab-${name}`,
        "aria-controls": `ml-pane-${name}`,
        type: "button",
        onclick: () => this.show(name),
      },
      name,
    );
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      this.show(TABS[(TABS.indexOf(name) + step + TABS.length) % TABS.length]);
      this.buttons[TABS.indexOf(this.tab)].focus();
    });
    return button;
  }

  show(name) {
    this.tab = name;
    this.buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(TABS[i] === name));
      button.tabIndex = TABS[i] === name ? 0 : -1;
    });
    for (const [tab, pane] of Object.entries(this.panes)) pane.hidden = tab !== name;
    if (this.state) this.draw(this.state);
  }

  draw(state) {
    this.state = state;
    if (this.tab === "Live") this.drawLive(state);
    else if (this.tab === "Jobs")
      redraw(this.slots.Jobs, [[...state.jobs.values()].map(jobKey)], () => panels.jobs(state));
    else this.drawReport(state);
  }

  drawLive(state) {
    const jobs = [...state.jobs.values()];
    const live = jobs.findLast((job) => !job.ended);
    redraw(
      this.slots.tiles,
      [
        state.scores.length,
        state.best,
        state.promotions.length,
        state.dollars,
        state.tokens,
        jobs.length,
        live && jobKey(live),
      ],
      () => panels.tiles(state),
    );
    redraw(this.slots.plan, [state.plan, state.active], () => panels.plan(state));
    redraw(this.slots.ideas, [state.promotions.length], () => panels.ideas(state));
    redraw(this.slots.scores, [state.scores.length, state.best], () => panels.scores(state, this.session));
    redraw(this.slots.findings, [state.findings.length], () => panels.findings(state));
    this.curves.draw(state);
  }

  async drawReport(state) {
    const at = state.published.findLast((p) => p.what === "report")?.seq ?? 0;
    if (this.reportAt === at) return;
    this.reportAt = at;
    const here = `/api/sessions/${this.session}`;
    const save = (href, name, label) => h("a.button", { href, download: name }, icon("download"), label);
    const buttons = [save(`${here}/log`, "", "Log (JSONL)")];
    let body = h("div.empty", "There is no report yet: it is written when the session ends.");
    if (at) {
      try {
        body = h("article.report", markdown(await api.report(this.session), (target) => `${here}/files/${target}`));
        buttons.unshift(save(`${here}/report`, "report.md", "Report"));
      } catch (error) {
        body = h("div.empty", error.message);
      }
    }
    this.slots.Report.replaceChildren(h("div.report-bar", buttons), body);
  }
}

const jobKey = (job) => [job.job, job.attempt, job.step, job.points.length, job.ended?.seq ?? 0];
