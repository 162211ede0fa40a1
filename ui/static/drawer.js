// The list of sessions, over the page's left edge.

import { api } from "./api.js";
import { h, icon } from "./dom.js";
import * as words from "./words.js";

const FRESH = 5000; // ms between looks while the list is open

export class Drawer {
  constructor({ open, create, readOnly }) {
    Object.assign(this, { open, selected: null, sessions: [], timer: null, seen: "" });
    this.search = h("input.search", {
      type: "search",
      placeholder: "Search sessions",
      "aria-label": "search sessions",
      oninput: () => this.draw(),
    });
    this.list = h("div.sessions");
    const close = h(
      "button.icon-button",
      { type: "button", "aria-label": "close", onclick: () => this.dialog.close() },
      icon("chevron", "back"),
    );
    const begin = () => {
      this.dialog.close();
      create();
    };
    const button = readOnly
      ? null
      : h("button.primary.wide", { type: "button", onclick: begin }, icon("plus"), "New session");
    const home = h("button.link", { type: "button", onclick: () => this.leave(null) }, "ML Intern");
    this.dialog = h(
      "dialog.drawer",
      { "aria-label": "sessions" },
      h("div.drawer-head", home, h("span.grow"), close),
      button,
      this.search,
      this.list,
    );
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => clearInterval(this.timer));
  }

  show() {
    this.dialog.showModal();
    this.load();
    this.timer = setInterval(() => this.load(), FRESH);
  }

  /** The open session's line follows its facts; the others are asked for. */
  touch(id, state) {
    const line = this.sessions.find((s) => s.id === id);
    if (!line || line.state === state.status) return;
    line.state = state.status;
    if (this.dialog.open) this.draw();
  }

  leave(id) {
    this.dialog.close();
    this.open(id);
  }

  async load() {
    try {
      this.sessions = await api.sessions();
      this.draw();
    } catch (error) {
      this.list.replaceChildren(h("div.empty", error.message));
    }
  }

  draw() {
    const wanted = this.search.value.toLowerCase();
    const found = this.sessions.filter((s) => `${s.title} ${s.id} ${s.driver}`.toLowerCase().includes(wanted));
    const parts = [...grouped(found)].flatMap(([name, sessions]) => [h("h2.day", name), ...sessions.map((s) => this.line(s))]);
    this.list.replaceChildren(
      ...(parts.length ? parts : [h("div.empty", wanted ? "No session matches." : "There is no session yet.")]),
    );
  }

  line(session) {
    const [label, tone] = words.outcome(session.state);
    const current = session.id === this.selected;
    return h(
      `button.session${current ? ".current" : ""}`,
      {
        type: "button",
        title: session.title,
        "aria-current": current ? "page" : null,
        onclick: () => this.leave(session.id),
      },
      h(`span.dot.${tone}`, { "aria-hidden": "true" }),
      h("span.session-title", session.title),
      h("span.sr", label),
      h("span.session-best", session.best === null ? "" : session.best.toFixed(2)),
    );
  }
}

function day(session) {
  const days = Math.floor((new Date().setHours(24, 0, 0, 0) - Date.parse(session.opened)) / 864e5);
  return days < 1 ? "Today" : days < 2 ? "Yesterday" : days < 8 ? "Last week" : "Earlier";
}

// Map.groupBy is not in Firefox before 119 and Safari before 17.4.
function grouped(sessions) {
  const groups = new Map();
  for (const one of sessions) groups.set(day(one), [...(groups.get(day(one)) ?? []), one]);
  return groups;
}
