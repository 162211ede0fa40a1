// What a scout does, in one folded card: its steps and its words are its own, not the driver's.

import { h, icon } from "./dom.js";
import { Entry } from "./transcript.js";

/** Kinds of facts that go into the card of the scout that they come from. A question to the person does not: it must be seen. */
export const SCOUTED = new Set(["replied", "started", "finished", "found", "noted", "planned"]);

/** Its steps are entries of their own: their elements exist once somebody has unfolded the card. */
export class Scout {
  constructor(transcript, name) {
    Object.assign(this, { name, rows: 0, steps: [], card: null });
    transcript.put(() => this.make());
  }

  putRow(make) {
    this.rows += 1;
    return this.put(make);
  }

  put(make) {
    const step = new Entry(make);
    this.steps.push(step);
    if (this.card) this.count();
    if (this.card?.open) this.inside.append(step.build());
    return step;
  }

  make() {
    this.counted = h("span.row-about");
    this.inside = h("div.scout-steps");
    this.card = h(
      "details.scout",
      { ontoggle: () => this.card.open && this.inside.replaceChildren(...this.steps.map((step) => step.build())) },
      h("summary", icon("search"), h("span.who", this.name), this.counted, icon("chevron", "turn")),
      this.inside,
    );
    this.count();
    return this.card;
  }

  count() {
    this.counted.textContent = `looked ${this.rows === 1 ? "once" : `${this.rows} times`}`;
  }
}
