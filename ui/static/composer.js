// Where a person writes. A message is read at the agent's next step, so it can be sent while the agent works.

import { h, icon } from "./dom.js";
import { APPROVALS, options } from "./steer.js";
import * as words from "./words.js";

export class Composer {
  constructor(root, { say, stop, tune, terms }) {
    this.say = say;
    this.box = h("textarea.box", {
      rows: "1",
      placeholder: "Ask a follow-up, or change the plan…",
      "aria-label": "message",
      oninput: () => this.grow(),
      onkeydown: (event) => this.key(event),
    });
    this.send = h("button.send", { type: "submit", "aria-label": "send" }, icon("send"));
    this.stop = h(
      "button.halt",
      { type: "button", "aria-label": "stop the session", title: "Stop (Esc)", hidden: true, onclick: stop },
      icon("stop"),
      h("span", "Stop"),
    );
    this.approval = h(
      "select.quiet-select",
      { "aria-label": "approval", onchange: () => tune({ approval: this.approval.value }) },
      options(APPROVALS, "auto"),
    );
    this.driver = h("button.quiet-select", { type: "button", "aria-label": "model and caps", onclick: terms });
    this.hint = h("span.composer-hint");
    this.notice = h("div.notice", { role: "status", hidden: true });
    this.problem = h("div.problem", { role: "alert", hidden: true });
    this.note = h("div.composer-note", { hidden: true }, this.driver, this.approval, this.hint);
    const form = h("form.box-frame", { onsubmit: (event) => this.submit(event) }, this.box, this.stop, this.send);
    this.root = h("div.composer", this.notice, this.problem, form, this.note);
    root.replaceChildren(this.root);
  }

  enable(on) {
    this.root.hidden = !on;
    this.stop.hidden = true;
  }

  draw(state) {
    this.stop.hidden = !state.active;
    this.note.hidden = !state.opened;
    this.hint.textContent = state.active ? "read at the next step" : "a message starts it again";
    this.driver.textContent = words.driver(state.driver);
    if (document.activeElement !== this.approval) this.approval.value = state.approval;
  }

  /** One sentence over the box, with the one thing to do about it; null takes it away. */
  tell(sentence, label, act) {
    const key = `${sentence}${label}`;
    if (this.notice.dataset.key === key) return;
    this.notice.dataset.key = key;
    this.notice.hidden = !sentence;
    const button = label && h("button.link", { type: "button", onclick: act }, label);
    this.notice.replaceChildren(...(sentence ? [h("span", sentence), button].filter(Boolean) : []));
  }

  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    event.preventDefault();
    this.submit(event);
  }

  async submit(event) {
    event.preventDefault();
    const text = this.box.value.trim();
    if (!text || this.send.disabled) return;
    this.send.disabled = true;
    this.problem.hidden = true;
    try {
      await this.say(text);
      this.box.value = "";
      this.grow();
    } catch (error) {
      this.problem.textContent = error.message; // and the text stays in the box
      this.problem.hidden = false;
    }
    this.send.disabled = false;
  }

  grow() {
    this.box.style.height = "auto";
    this.box.style.height = `${Math.min(this.box.scrollHeight, 180)}px`;
  }
}
