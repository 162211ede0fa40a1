// What a written file changed, line by line: signs and colours, a few lines of the surroundings, the rest folded away.

import { allOf, h } from "./dom.js";
import { diffLines } from "./vendor/diff/diff/line.js";

const AROUND = 3; // unchanged lines shown at each side of a change
const SHOWN = 200; // lines at first
const PATIENCE = 80; // ms; two files that differ everywhere are shown as one taken away and one added
const SIGNS = { add: "+", cut: "-", same: " ", gap: "⋯" };

/** [kind, text] of each line; a gap's text says how many lines it stands for. Pure. */
export function changes(before, after) {
  const whole = [
    { removed: true, value: before },
    { added: true, value: after },
  ];
  const parts = diffLines(before, after, { timeout: PATIENCE }) ?? whole;
  return parts.flatMap((part, i) => {
    const lines = part.value.replace(/\n$/, "").split("\n");
    if (part.added || part.removed) return part.value ? lines.map((line) => [part.added ? "add" : "cut", line]) : [];
    const head = i === 0 ? 0 : AROUND;
    const tail = i === parts.length - 1 ? 0 : AROUND;
    const same = (some) => some.map((line) => ["same", line]);
    if (lines.length <= head + tail + 1) return same(lines);
    const hidden = lines.length - head - tail;
    return [...same(lines.slice(0, head)), ["gap", `${hidden} unchanged lines`], ...same(lines.slice(lines.length - tail))];
  });
}

/** The change as an element; `before` is null for a file that is new to this feed. */
export function diff(path, before, after) {
  const lines = changes(before ?? "", after);
  const count = (kind) => lines.filter(([one]) => one === kind).length;
  const pre = h("pre.diff", { tabindex: 0, role: "group", "aria-label": `changes of ${path}` }, draw(lines, SHOWN));
  const title =
    before === null
      ? `${path}: ${count("add")} lines, not seen here before`
      : `${path}: +${count("add")} −${count("cut")}, against the last version seen here`;
  const all = () => pre.replaceChildren(...draw(lines, lines.length));
  return [h("div.body-line", title), pre, lines.length > SHOWN ? allOf(lines.length, pre, all) : null];
}

const draw = (lines, most) =>
  lines.slice(0, most).map(([kind, text]) => h(`span.line.${kind}`, h("span.sign", SIGNS[kind]), `${text}\n`));
