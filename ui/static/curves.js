// Training curves from Progressed facts, drawn by uPlot: a colour and a dash pattern a run, findings where they happened.

import { drawing, h, tabular } from "./dom.js";
import { Flags } from "./flags.js";
import { before, breaks, extremes, table } from "./series.js";
import uPlot from "./vendor/uplot/uPlot.esm.js";
import * as words from "./words.js";

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [14, 5], [4, 2, 1, 2]];
const HEIGHT = 230;
const FEW = 10; // curves until a person asks for all: more can be told apart neither by eye nor by the browser in time
const REST = 8; // drawing may take one part in this many of the time, however long the curves are
const css = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();

export class Curves {
  constructor() {
    Object.assign(this, { metric: null, log: false, weight: 0, hidden: new Set(), every: false, state: null, made: "", cost: 0 });
    this.flags = new Flags();
    this.select = h("select.metric", { "aria-label": "metric", onchange: () => this.set({ metric: this.select.value }) });
    this.hint = h("span.hint");
    this.at = h("span.hint.num");
    this.toggle = h("button.chip", { type: "button", "aria-pressed": "false", onclick: () => this.flip() }, "Log scale");
    this.slider = h("input.smooth", { type: "range", min: 0, max: 0.99, step: 0.01, value: 0, oninput: () => this.slide() });
    this.weightShown = h("output.num", "0");
    const slider = h("label.smoothing", "Smoothing", this.slider, this.weightShown);
    this.plotArea = h("div.plot", { role: "group", tabindex: 0, onkeydown: (event) => this.key(event) });
    this.spoken = h("div.sr", { "aria-live": "polite" });
    this.legend = h("div.legend");
    this.more = h("button.link.rest", { type: "button", hidden: true, onclick: () => this.set({ every: !this.every }) });
    this.values = h("details.values", { ontoggle: () => this.tabulate() }, h("summary", "Values as a table"), h("div.slot"));
    this.foot = h("div.curves-foot", this.values);
    this.element = h(
      "section.card.curves",
      { "aria-label": "curves", hidden: true },
      h("div.card-head", this.select, this.hint, h("span.grow"), this.at),
      h("div.curve-tools", this.toggle, slider),
      this.plotArea,
      this.legend,
      this.more,
      this.foot,
      this.spoken,
    );
    new ResizeObserver(() => this.plot && this.plot.setSize(this.size())).observe(this.plotArea);
    const themed = () =>
      this.element.isConnected ? this.draw(this.state) : document.removeEventListener("ml-intern:theme", themed);
    document.addEventListener("ml-intern:theme", themed);
  }

  set(choice) {
    Object.assign(this, choice);
    this.draw(this.state);
  }

  flip() {
    this.toggle.setAttribute("aria-pressed", String(!this.log));
    this.set({ log: !this.log });
  }

  slide() {
    this.weightShown.textContent = this.slider.value;
    this.set({ weight: Number(this.slider.value) });
  }

  size() {
    return { width: Math.max(200, this.plotArea.clientWidth), height: HEIGHT };
  }

  /** Draw what there is, at most once a frame, and less often where a drawing takes long. */
  draw(state) {
    this.state = state;
    if (this.waiting || !state) return;
    this.waiting = true;
    const soon = () =>
      requestAnimationFrame(() => {
        this.waiting = false;
        const start = performance.now();
        const made = this.made;
        this.render(this.state);
        this.cost = made === this.made ? performance.now() - start : 0; // the first drawing takes longer, and is no measure
      });
    if (this.cost > 4) setTimeout(soon, this.cost * REST);
    else soon();
  }

  render(state) {
    const names = words.metricOrder(new Set(state.runs.flatMap((job) => Object.keys(job.values))));
    this.element.hidden = names.length === 0;
    if (names.length === 0) return;
    const metric = names.includes(this.metric) ? this.metric : names[0];
    this.offer(names, metric);
    // a run keeps its colour and its dashes, whichever metric is shown
    const known = state.runs.map((job, i) => ({ ...job, pen: i })).filter((job) => metric in job.values);
    const all = known.filter((job, i) => this.every || i >= known.length - FEW || job.job === state.best);
    this.more.hidden = known.length === all.length && !this.every;
    this.more.textContent = this.every ? `Show the newest ${FEW} only` : `Show ${known.length - all.length} earlier runs`;
    const runs = all.filter((job) => !this.hidden.has(job.job));
    const data = table(runs, metric, this.log, this.weight);
    Object.assign(this, { all, runs, data, shown: metric });
    const made = JSON.stringify([metric, this.log, this.weight > 0, css("--bg"), runs.map((job) => job.job)]);
    if (this.plot && made === this.made) this.plot.setData(data.columns);
    else this.build(made);
    this.entries();
    this.describe();
    this.tell(this.plot.cursor.idx ?? null);
    this.tabulate();
  }

  offer(names, metric) {
    const offered = names.join(" ");
    if (this.select.dataset.names !== offered) {
      this.select.replaceChildren(...names.map((name) => h("option", { value: name }, words.metric(name)[0])));
      this.select.dataset.names = offered;
    }
    this.select.value = metric;
    this.hint.textContent = words.metric(metric)[1];
  }

  build(made) {
    this.plot?.destroy();
    this.made = made;
    const axis = {
      stroke: css("--faint"),
      font: "11px 'Inter Variable'",
      grid: { stroke: css("--line"), width: 1 },
      ticks: { show: false },
    };
    const whole = (_, splits) => splits.map((step) => (Number.isInteger(step) ? words.number(step) : ""));
    const options = {
      ...this.size(),
      legend: { show: false },
      cursor: { points: { size: 7 }, drag: { x: false, y: false } },
      scales: { x: { time: false }, y: { distr: this.log ? 3 : 1 } },
      axes: [
        { ...axis, size: 26, gap: 6, values: whole, label: "step", labelSize: 14, labelGap: -2, labelFont: axis.font },
        {
          ...axis,
          size: (_, ticks) => room(ticks),
          values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : words.number(tick, 3))),
        },
      ],
      series: [{}, ...this.runs.flatMap((job) => pens(job.pen, this.weight > 0))],
      hooks: {
        draw: [(plot) => this.marks(plot)],
        setCursor: [(plot) => this.tell(plot.cursor.idx ?? null)],
      },
      padding: [10, 12, 0, 0],
    };
    this.plot = new uPlot(options, this.data.columns, this.plotArea);
  }

  /** Findings as a line at their step, with a flag on top; values that are not finite as a cross at the top. */
  marks(plot) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    const inside = (step) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, plot.valToPos(step, "x", true)));
    ctx.save();
    this.runs.forEach((job, i) => {
      ctx.lineWidth = ratio;
      ctx.setLineDash([3 * ratio, 3 * ratio]);
      for (const found of job.findings.filter((f) => f.level !== "info")) {
        ctx.strokeStyle = css(found.level === "stop" ? "--bad" : "--accent");
        line(ctx, inside(found.step), bbox.top, inside(found.step), bbox.top + bbox.height);
      }
      ctx.setLineDash([]);
      ctx.strokeStyle = colour(job.pen);
      ctx.lineWidth = 2 * ratio;
      for (const step of breaks(this.data.each[i])) cross(ctx, inside(step), bbox.top + 30 * ratio, 4 * ratio);
    });
    ctx.restore();
    this.flags.place(plot, this.runs);
  }

  /** One button a run, which hides and shows its curve. */
  entries() {
    const made = JSON.stringify([this.all.map((job) => job.job), [...this.hidden], css("--bg")]);
    if (this.legend.dataset.made === made) return;
    const focused = this.legend.contains(document.activeElement) ? document.activeElement.dataset.job : null;
    this.legend.dataset.made = made;
    this.legend.replaceChildren(
      ...this.all.map((job) =>
        h(
          "button.legend-run",
          {
            type: "button",
            "data-job": job.job,
            "aria-pressed": String(!this.hidden.has(job.job)),
            onclick: () => this.turn(job.job),
          },
          swatch(job.pen),
          h("span.mono", job.job),
          h("span.legend-value"),
        ),
      ),
    );
    [...this.legend.children].find((entry) => entry.dataset.job === focused)?.focus();
  }

  turn(job) {
    if (!this.hidden.delete(job)) this.hidden.add(job);
    this.draw(this.state);
  }

  /** Every run's value at the step under the cursor, or its latest. */
  tell(at) {
    const step = at === null ? null : this.data.columns[0][at];
    this.at.textContent = step === null || step === undefined ? "" : `step ${words.number(step)}`;
    for (const entry of this.legend.children) {
      const i = this.runs.findIndex((job) => job.job === entry.dataset.job);
      entry.lastChild.textContent = i < 0 ? "hidden" : this.reading(i, step);
    }
  }

  reading(i, step) {
    const { steps, values } = this.data.each[i];
    const last = steps.length - 1;
    if (step !== null && (step < steps[0] || step > steps[last])) return "–";
    const at = step === null ? last : before(steps, step);
    const raw = words.number(values[at]);
    return this.weight ? `${words.number(this.data.smooth[i][at])} (${raw})` : raw;
  }

  /** Arrow keys move the cursor over the steps, and say the values. */
  key(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (event.target !== this.plotArea || move === undefined || !this.plot) return;
    event.preventDefault();
    const last = this.data.columns[0].length - 1;
    const from = this.plot.cursor.idx ?? (move > 0 ? -1 : last + 1);
    const at = Math.min(last, Math.max(0, from + move));
    const step = this.data.columns[0][at];
    this.plot.setCursor({ left: this.plot.valToPos(step, "x"), top: 0 });
    this.spoken.textContent = `Step ${step}: ${this.runs.map((job, i) => `${job.job} ${this.reading(i, step)}`).join(", ")}`;
  }

  describe() {
    const each = this.runs.map((job, i) => `${job.job} ${this.reading(i, null)} at step ${this.data.each[i].steps.at(-1)}`);
    this.plotArea.setAttribute("aria-label", `${words.metric(this.shown)[0]} by step: ${each.join(", ")}`);
  }

  /** The same in a table, for a reader who cannot see curves; made only while it is open. */
  tabulate() {
    if (!this.values.open || !this.data) return;
    const head = ["Run", "Step", "Latest", "Lowest", "Highest", "Not finite at"];
    const rows = this.runs.map((job, i) => {
      const { steps, values, broken } = this.data.each[i];
      const [low, high] = extremes(values) ?? ["–", "–"];
      const bad = broken.slice(0, 3).join(", ") + (broken.length > 3 ? ` and ${broken.length - 3} more` : "");
      const cells = [steps.at(-1), values.at(-1), low, high].map((value) => h("td.num", words.number(value)));
      return h("tr", h("th.mono", { scope: "row" }, job.job), cells, h("td", bad || "–"));
    });
    const titles = head.map((title) => h("th", { scope: "col" }, title));
    const caption = h("caption.sr", `${words.metric(this.shown)[0]} of each run`);
    this.values.lastChild.replaceChildren(tabular("values", titles, rows, { caption }));
  }
}

/** How a run is drawn; with smoothing, its raw curve stays behind the smooth one, faint. */
function pens(pen, smooth) {
  const full = { stroke: colour(pen), width: 2, dash: dashes(pen), points: { show: false } };
  return smooth ? [{ ...full, width: 1, dash: [], alpha: 0.3 }, full] : [full];
}

const room = (ticks) => 16 + 6.5 * Math.max(2, ...(ticks ?? []).map((tick) => tick.length)); // px for the longest label
const colour = (pen) => css(`--run-${(pen % 6) + 1}`);
const dashes = (pen) => DASHES[(pen + Math.floor(pen / 6)) % 6]; // the seventh run shares a colour with the first, not its dashes

function line(ctx, x1, y1, x2, y2) {
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
}

function cross(ctx, x, y, r) {
  line(ctx, x - r, y - r, x + r, y + r);
  line(ctx, x - r, y + r, x + r, y - r);
}

function swatch(pen) {
  const svg = drawing("swatch", "0 0 22 4", "M0 2h22");
  svg.firstChild.style.stroke = `var(--run-${(pen % 6) + 1})`;
  svg.firstChild.setAttribute("stroke-dasharray", dashes(pen).join(" ") || "none");
  return svg;
}
