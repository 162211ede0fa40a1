// The bar at the top: the session's name and state, what it has used, and the theme.

import { h, icon, redraw } from "./dom.js";
import { pill } from "./rows.js";
import * as words from "./words.js";

const dark = () => document.body.classList.contains("dark");

export class Top {
  /** `now` is the time in ms that the session has come to; a replay gives its own. */
  constructor(root, { menu, actions = null, now = () => Date.now() }) {
    this.now = now;
    this.title = h("h1.title");
    this.status = h("span.slot", { "aria-live": "polite" });
    this.driver = h("span.chip.driver");
    this.spent = h("span.slot.spent");
    this.theme = h(
      "button.icon-button",
      { type: "button", "aria-label": "switch between dark and light", onclick: () => this.flip() },
      icon(dark() ? "sun" : "moon"),
    );
    const open = h("button.icon-button", { type: "button", "aria-label": "sessions", onclick: menu }, icon("menu"));
    root.replaceChildren(
      h("header.top", open, this.title, this.status, this.driver, h("span.grow"), this.spent, this.theme, actions),
    );
    setInterval(() => this.state?.active && this.clock(), 1000);
    this.dark = dark();
    new MutationObserver(() => this.themed()).observe(document.body, { attributeFilter: ["class"] });
  }

  flip() {
    const theme = dark() ? "light" : "dark";
    document.body.classList.toggle("dark", theme === "dark");
    const address = new URL(location.href);
    address.searchParams.set("__theme", theme); // the name that Gradio reads, so that a reload keeps it
    history.replaceState(null, "", address);
  }

  /** Whoever changed the theme: a press on the button, or the system at dusk. */
  themed() {
    if (this.dark === dark()) return;
    this.dark = dark();
    this.theme.replaceChildren(icon(this.dark ? "sun" : "moon"));
    document.dispatchEvent(new Event("ml-intern:theme"));
  }

  draw(state, session) {
    this.state = state;
    const opened = state.opened;
    this.title.textContent = opened ? state.title : session ? "…" : "ML Intern";
    this.title.title = opened?.goal.text ?? "";
    this.driver.hidden = !opened;
    this.driver.textContent = opened ? words.driver(state.driver) : "";
    if (opened) document.title = `${words.clip(state.title, 60)} · ML Intern`;
    const [label, tone] = words.outcome(state.status);
    redraw(this.status, [opened !== null, label], () => (opened ? pill(label, tone) : null));
    this.clock();
  }

  /** What is used of the tightest cap that was set: money first, then time. */
  clock() {
    const { state } = this;
    if (!state.opened) {
      this.spent.replaceChildren();
      return;
    }
    const { dollars, hours } = state.budget;
    const elapsed = Math.round(state.elapsed(this.now())); // as the budget card says it
    const clock = `${Math.floor(elapsed / 60)}:${String(Math.floor(elapsed % 60)).padStart(2, "0")}`;
    if (dollars !== null) this.meter(paid(state), words.dollars(dollars), state.dollars / dollars);
    else if (hours !== null) this.meter(clock, words.seconds(hours * 3600), elapsed / (hours * 3600));
    else this.meter(clock, null, null);
  }

  meter(used, cap, share) {
    const fill = h("span.meter-fill");
    fill.style.width = `${Math.min(100, (share ?? 0) * 100)}%`;
    this.spent.replaceChildren(
      h("span.num", used, cap && h("span.meter-cap", ` of ${cap}`)),
      ...(share === null ? [] : [h("span.meter", { "aria-hidden": "true" }, fill)]),
    );
  }
}

/** On a phone the price is one sign. */
const paid = ({ paid }) =>
  paid === null ? [h("span.wide-only", "price unknown"), h("span.phone-only", { title: "price unknown" }, "$?")] : words.dollars(paid);
