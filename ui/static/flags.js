// Findings on a plot: a button at the step where each happened, with its words under the pointer or the focus.

import { h, icon } from "./dom.js";

export class Flags {
  constructor() {
    this.made = new Map();
  }

  /** Put every finding of the runs where it belongs. `plot` is uPlot's; its `over` is the area of the curves. */
  place(plot, runs) {
    const groups = gathered(runs);
    for (const [key, flag] of this.made) {
      if (groups.has(key) && flag.isConnected) continue;
      flag.remove();
      this.made.delete(key);
    }
    const width = plot.over.clientWidth;
    for (const [key, group] of groups) {
      if (!this.made.has(key)) {
        const flag = button(group);
        this.made.set(key, flag);
        plot.over.append(flag);
      }
      const flag = this.made.get(key);
      const x = Math.min(width, Math.max(0, plot.valToPos(group[0].step, "x"))); // a run may stop before its first point
      flag.style.left = `${x}px`;
      flag.classList.toggle("left", x > width / 2);
    }
  }
}

/** Findings that say something, by the step where they happened. */
function gathered(runs) {
  const groups = new Map();
  for (const job of runs) {
    for (const found of job.findings) {
      if (found.level === "info") continue;
      const key = `${found.step} ${job.job} ${found.seq}`;
      const same = [...groups.keys()].find((other) => other.startsWith(`${found.step} `)) ?? key;
      groups.set(same, [...(groups.get(same) ?? []), found]);
    }
  }
  return new Map([...groups].map(([key, group]) => [`${key} ${group.length}`, group]));
}

function button(group) {
  const lines = group.map((f) => h("span.flag-line", h("b", f.job), ` ${f.what}`, h("span.flag-advice", f.advice)));
  const flag = h(
    `button.flag.${group.some((f) => f.level === "stop") ? "stop" : "warn"}`,
    {
      type: "button",
      onkeydown: (event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation(); // here it closes the words, and does not stop the session
        flag.blur();
      },
    },
    icon("flag"),
    h("span.sr", `Finding at step ${group[0].step}: `),
    h("span.flag-text", lines),
  );
  return flag;
}
