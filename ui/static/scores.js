// Sealed scores: a table, and base against best on one axis, with their intervals.

import { h, tabular } from "./dom.js";
import { card, FEW, rest } from "./panels.js";
import { signed } from "./words.js";

const SPLITS = { heldout: "held-out", dev: "dev" };
const SHORT = 6; // hex digits of a hash that are shown

/** `open` shows a file of the session by its path; null where there are no files. `list` is {whole, more}. */
export function scores(state, open, list) {
  if (!state.scores.length) return null;
  const target = state.opened?.goal.target ?? null;
  const known = new Map(state.scores.map((s) => [`${s.split} ${s.model}`, s])); // the latest of each
  const latest = state.scores.filter((s) => known.get(`${s.split} ${s.model}`) === s);
  const told = (s, i) => list.whole || i >= latest.length - FEW || s.model === "base" || s.model === state.best;
  const shown = latest.filter(told);
  const metric = latest[0].metric.replace(/^./, (c) => c.toUpperCase());
  const head = [["Model"], [`${metric}, 95 %`], ["n", "num"], ["Ended by itself"], ["Seal, answers"]].map(([name, kind]) =>
    h(`th${kind ? `.${kind}` : ""}`, { scope: "col" }, name),
  );
  const rows = shown.map((s) => row(s, state.best, target, open));
  return card(
    "scores",
    "Scores",
    target === null ? "sealed" : `sealed · target ${target}`,
    comparison(state, target),
    tabular("scores", head, rows),
    rest(latest.length - shown.length, "more", list) ?? "",
  );
}

function row(s, best, target, open) {
  const isBest = s.model === best && s.model !== "base";
  return h(
    `tr${s.model === best ? ".best" : ""}`,
    h("td.num", h("span.mono", s.model), isBest ? h("span.mark", "best") : null, h("div.hint", SPLITS[s.split])),
    h("td.num.measure", h("b", s.value.toFixed(3)), ` [${s.low.toFixed(2)}, ${s.high.toFixed(2)}]`, interval(s, target)),
    h("td.num", String(s.n)),
    h("td.num", s.finished_share == null ? "unknown" : `${Math.round(s.finished_share * 100)} %`),
    h("td.num", seal(s), open && h("div", h("button.link", { type: "button", onclick: () => open(s.items) }, "items"))),
  );
}

/** What ties the score to its judge, its items and its model: short, and whole under the pointer or the focus. */
function seal(s) {
  const parts = ["judge", "split", "model"];
  const whole = parts.map((name) => h("span.tip-line", h("b", name), ` ${s.seal[name]}`));
  const words = h("span.tip-text", whole);
  const place = () => {
    // fixed: a table that scrolls would cut it off
    const box = tip.getBoundingClientRect();
    words.style.top = `${box.bottom + 4}px`;
    words.style.right = `${Math.max(8, innerWidth - box.right)}px`;
  };
  const leave = (event) => event.key === "Escape" && (event.stopPropagation(), tip.blur());
  const tip = h(
    "button.tip.mono",
    { type: "button", onkeydown: leave, onfocus: place, onpointerenter: place },
    h("span.sr", "Seal: "),
    parts.map((name) => s.seal[name].slice(0, SHORT)).join("·"),
    words,
  );
  return tip;
}

/** Base and best, held-out first: where both intervals lie on one axis, and what lies between their values. */
function comparison(state, target) {
  if (state.best === "base") return null;
  const pairs = ["heldout", "dev"]
    .map((split) => [split, state.score("base", split), state.score(state.best, split)])
    .filter(([, base, best]) => base && best);
  if (!pairs.length) return null;
  const blocks = pairs.map(([split, base, best]) => {
    const apart = best.low > base.high ? "intervals apart" : "intervals overlap";
    const change = `${signed(best.value - base.value)}, ${apart}`;
    return h(
      "div.compare",
      h("div.compare-head", h("b", SPLITS[split]), h("span.hint", change)),
      strip("base", base, target, "before"),
      strip(best.model, best, target, "kept"),
    );
  });
  return h("div.compares", { role: "group", "aria-label": "base against best" }, blocks);
}

const strip = (name, s, target, tone) =>
  h(
    `div.strip.${tone}`,
    h("span.mono.strip-name", name),
    interval(s, target),
    h("span.num", h("b", s.value.toFixed(3)), ` [${s.low.toFixed(2)}, ${s.high.toFixed(2)}]`),
  );

function interval(s, target) {
  const range = h("span.range");
  Object.assign(range.style, { left: `${s.low * 100}%`, width: `${Math.max(1, (s.high - s.low) * 100)}%` });
  const value = h("span.value");
  value.style.left = `${s.value * 100}%`;
  const goal = h("span.target");
  goal.style.left = `${(target ?? 0) * 100}%`;
  return h("span.interval", { "aria-hidden": "true" }, range, value, target === null ? null : goal);
}
