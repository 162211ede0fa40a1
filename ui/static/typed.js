// An answer while it is being written: the thought folded, the text as it comes. Paragraphs that are whole are made once
// and as they will stay; only the last one is made anew with every word, so that a long answer costs no more than a short one.

import { h, icon } from "./dom.js";
import { markdown, settled } from "./markdown.js";

export class Typed {
  /** Grows in `element`, which is hidden while nothing is written. */
  constructor(element) {
    this.element = element;
    this.thoughtText = h("div.thought-text");
    this.thought = h(
      "details.thought",
      { ontoggle: () => this.think() },
      h("summary", icon("spark"), h("span", "Thinking"), icon("chevron", "turn")),
      this.thoughtText,
    );
    this.reply = h("div.reply");
    this.forget();
  }

  show(text, thought) {
    if (text === this.text && thought === this.thoughts) return;
    if (!text && !thought) return this.forget();
    this.text = text;
    if (this.element.hidden) this.element.replaceChildren(this.thought, this.reply);
    this.element.hidden = false;
    this.thoughts = thought;
    this.thought.hidden = !thought;
    this.thought.classList.toggle("busy", !text);
    this.think();
    this.reply.hidden = !text;
    this.write(text);
  }

  get thinks() {
    return !this.element.hidden && !this.thought.hidden;
  }

  /** A folded thought is not made. */
  think() {
    if (this.thought.open) this.thoughtText.textContent = this.thoughts;
  }

  write(text) {
    if (!text.startsWith(this.whole)) this.forgetText(); // something in it was taken out
    const from = this.whole.length;
    const end = from + settled(text.slice(from));
    for (const one of this.last) one.remove();
    if (end > from) this.reply.append(...markdown(text.slice(from, end)));
    this.whole = text.slice(0, end);
    this.last = markdown(text.slice(end), undefined, false);
    this.reply.append(...this.last);
  }

  forgetText() {
    this.whole = "";
    this.last = [];
    this.reply.replaceChildren();
  }

  forget() {
    this.element.hidden = true;
    this.element.replaceChildren();
    this.text = this.thoughts = "";
    this.thought.open = false;
    this.thoughtText.replaceChildren();
    this.forgetText();
  }
}
