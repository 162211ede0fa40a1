// What a person does to the session itself: share it, rename it, change its terms, fork it, compact its memory, take a turn back, delete it.

import { api } from "./api.js";
import { h, icon } from "./dom.js";
import { field, number, sheet } from "./sheet.js";

export const APPROVALS = [
  ["auto", "Automatic within the caps"],
  ["ask", "Ask before each training"],
  ["always", "Ask before every change"],
];
const CAPS = [
  ["hours", "Hours", "wall clock while it works"],
  ["job_hours", "Job hours", "summed run time of jobs"],
  ["dollars", "Dollars", "model calls and paid jobs"],
  ["tokens", "Tokens", "of the model, in and out"],
  ["calls", "Model calls", "300 when left empty"],
];
const EFFORTS = [
  ["default", "The model's own"],
  ["low", "Low"],
  ["medium", "Medium"],
  ["high", "High"],
];
export const options = (pairs, chosen) =>
  pairs.map(([value, label]) => h("option", { value, selected: value === chosen }, label));

export class Steer {
  /** `acts`: open(id or null), fail(error), notifier. */
  constructor(acts) {
    this.acts = acts;
    const item = (label, run) =>
      h("button.menu-item", { type: "button", role: "menuitem", onclick: () => this.pick(run) }, label);
    this.items = {
      share: item("Share…", () => this.share()),
      rename: item("Rename…", () => this.rename()),
      tune: item("Caps, model and approval…", () => this.tune()),
      fork: item("Fork", () => this.fork()),
      compact: item("Compact now", () => api.compact(this.session)),
      undo: item("Take back the last turn", () => api.undo(this.session)),
      notify: h("button.menu-item", { type: "button", role: "menuitemcheckbox", onclick: () => this.notify() }),
      save: h("a.menu-item", { role: "menuitem", download: "" }, "Download the log"),
      delete: item("Delete…", () => this.delete()),
    };
    this.menu = h("div.menu", { popover: "auto", role: "menu", "aria-label": "session" }, Object.values(this.items));
    this.menu.addEventListener("keydown", (event) => this.move(event));
    this.menu.addEventListener("toggle", (event) => event.newState === "open" && this.place());
    this.more = h(
      "button.icon-button",
      { type: "button", "aria-label": "more about this session", "aria-haspopup": "menu", onclick: () => this.menu.togglePopover() },
      icon("more"),
    );
    this.button = h("button.plain.share", { type: "button", onclick: () => this.share() }, icon("share"), h("span", "Share"));
    this.element = h("div.steer", { hidden: true }, this.button, this.more, this.menu);
  }

  draw(state, session) {
    Object.assign(this, { state, session });
    this.element.hidden = !session || !state.opened;
    this.items.undo.disabled = this.items.delete.disabled = state.active;
    const idle = state.driver === "autopilot" ? "Autopilot is a fixed policy and keeps no memory to compact." : "";
    this.items.compact.disabled = Boolean(idle);
    this.items.compact.title = idle || "Shorten what the model has to read, at its next step; the transcript stays whole.";
    this.items.save.href = `/api/sessions/${session}/log`;
    this.items.notify.textContent = `${this.acts.notifier.on ? "✓ " : ""}Notify me`;
    this.items.notify.setAttribute("aria-checked", String(this.acts.notifier.on));
  }

  place() {
    const box = this.more.getBoundingClientRect();
    this.menu.style.top = `${box.bottom + 6}px`;
    this.menu.style.right = `${innerWidth - box.right}px`;
    this.menu.querySelector(".menu-item:not(:disabled)").focus();
  }

  /** Arrow keys move between the lines, as in any menu. */
  move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const lines = [...this.menu.querySelectorAll(".menu-item:not(:disabled)")];
    lines[(lines.indexOf(document.activeElement) + step + lines.length) % lines.length].focus();
  }

  async pick(run) {
    this.menu.hidePopover();
    try {
      await run();
    } catch (error) {
      this.acts.fail(error);
    }
  }

  async notify() {
    this.menu.hidePopover();
    await this.acts.notifier.flip().catch(this.acts.fail);
    this.draw(this.state, this.session);
  }

  rename() {
    const title = h("input", { name: "title", value: this.state.title, maxlength: "200", required: true, autocomplete: "off" });
    const id = this.session;
    sheet({ title: "Rename the session", body: field("Title", "shown in lists", title), send: (given) => api.rename(id, given.title) });
    title.select();
  }

  /** Caps, approval mode, driver and effort; read at the agent's next step. */
  tune() {
    const { state, session } = this;
    const thinks = state.effort ?? "default";
    const cap = ([name, label, hint]) =>
      field(
        label,
        hint,
        h("input", { name, type: "number", min: "0", step: "any", value: state.budget[name], placeholder: "no cap", inputmode: "decimal" }),
      );
    const body = [
      h("div.field-row", CAPS.slice(0, 2).map(cap)),
      h("div.field-row", CAPS.slice(2).map(cap)),
      field("Model", "autopilot, or one like anthropic/claude-sonnet-4-5", h("input", { name: "driver", value: state.driver, required: true })),
      h(
        "div.field-row",
        field("Effort", "how long it thinks", h("select", { name: "effort" }, options(EFFORTS, thinks))),
        field("Approval", "who says yes", h("select", { name: "approval" }, options(APPROVALS, state.approval))),
      ),
    ];
    sheet({
      title: "Caps, model and approval",
      body,
      send: ({ driver, effort, approval, ...caps }) =>
        api.tune(session, {
          budget: Object.fromEntries(CAPS.map(([name]) => [name, number(caps[name])])),
          approval,
          driver,
          ...(effort === thinks ? {} : { effort }),
        }),
    });
  }

  /** A copy of the session; with the seq of a fact its driver knows nothing that was said after it. */
  async fork(at = null) {
    this.acts.open((await api.fork(this.session, at)).session);
  }

  delete() {
    const id = this.session;
    sheet({
      title: "Delete this session?",
      body: h("p", "Its log, files, models and report are removed from this machine for good."),
      action: "Delete",
      danger: true,
      send: async () => {
        await api.delete(id);
        this.acts.open(null);
      },
    });
  }

  share(shared = this.state.public) {
    const { session } = this;
    const address = (more) => {
      const url = new URL(location.origin);
      url.search = new URLSearchParams({ replay: session, ...more });
      return url.href;
    };
    const snippet = `<iframe src="${address({ embed: "1" })}" width="100%" height="620" style="border:0" title="ML Intern replay"></iframe>`;
    const copy = (label, text) => {
      const write = () => navigator.clipboard.writeText(text).then(() => (button.textContent = "Copied"));
      const button = h("button.plain", { type: "button", onclick: write }, label);
      return button;
    };
    if (!shared) {
      const what =
        "Anybody with the link will see its transcript, curves, scores and ideas as a replay. Keys and paths of this machine are left out; everything else that the model and its tools wrote or read, file contents too, is shown as it is.";
      sheet({ title: "Share as a replay", body: h("p", what), action: "Share", send: () => api.share(session, true).then(() => setTimeout(() => this.share(true))) });
      return;
    }
    const link = h("input.mono", { readonly: true, value: address({}) });
    const code = h("textarea.mono", { readonly: true, rows: "3" }, snippet);
    sheet({
      title: "Shared as a replay",
      body: [
        field("Link", "opens the player", link),
        field("Embed", "for a blog post", code),
        h("div.form-buttons", copy("Copy the link", link.value), copy("Copy the snippet", snippet)),
      ],
      action: "Make it private",
      send: () => api.share(session, false),
    });
  }
}
