// What a command printed, as a terminal would show it at the end: colours, progress bars at their last state, the tail.

import { allOf, h } from "./dom.js";

const TAIL = 16; // lines at first, as many as fit without scrolling: what a command says last says most
const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
// Colour codes are kept; titles (OSC), movements and the rest of what only a terminal understands are not.
const CODES = /\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]/g;
const COLOUR = /^\x1b\[([0-9;]*)m$/;
const REST = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;

/** Lines as they stand on the screen at the end: of what was written over with a carriage return, the last. */
export function screen(text) {
  return (text.endsWith("\n") ? text.slice(0, -1) : text)
    .split("\n")
    .map((line) => line.split("\r").findLast((part) => part.replace(CODES, "").trim() !== "") ?? "");
}

/** Runs of one colour: [text, classes]. A colour holds over the ends of lines. Pure. */
export function colours(text) {
  const runs = [];
  let now = { colour: "", bold: false };
  let from = 0;
  const put = (part) => {
    const clean = part.replace(REST, "");
    const classes = [now.colour && `ansi-${now.colour}`, now.bold && "ansi-bold"].filter(Boolean);
    if (clean) runs.push([clean, classes]);
  };
  for (const match of text.matchAll(CODES)) {
    put(text.slice(from, match.index));
    from = match.index + match[0].length;
    const codes = match[0].match(COLOUR)?.[1];
    if (codes !== undefined) now = after(now, codes.split(";").map(Number));
  }
  put(text.slice(from));
  return runs;
}

function after(before, codes) {
  const now = { ...before };
  for (let i = 0; i < codes.length; i += 1) {
    const one = codes[i];
    if (one === 0) Object.assign(now, { colour: "", bold: false });
    else if (one === 1) now.bold = true;
    else if (one === 22) now.bold = false;
    else if (one === 39) now.colour = "";
    else if ((one >= 30 && one <= 37) || (one >= 90 && one <= 97)) now.colour = COLOURS[one % 10];
    else if (one === 38 || one === 48) i += codes[i + 1] === 5 ? 2 : 4; // of 256 or more colours: none of ours
  }
  return now;
}

/** A command with the end of its output. `ended` is how it ended, or "". */
export function terminal({ command = "", output = "", ended = "", bad = false }) {
  const lines = output ? screen(output) : [];
  const pre = h("pre.output.term", {
    tabindex: 0,
    role: "group",
    "aria-label": command ? `output of ${command.slice(0, 80)}` : "output",
  });
  const draw = (shown) => {
    const runs = colours(shown.join("\n")).map(([text, classes]) =>
      classes.length ? h(["span", ...classes].join("."), text) : text,
    );
    pre.replaceChildren(...runs);
  };
  draw(lines.slice(-TAIL));
  return [
    command ? h("pre.command", { tabindex: 0, role: "group", "aria-label": "command" }, h("b", "$ "), command) : null,
    lines.length > TAIL ? allOf(lines.length, pre, () => draw(lines)) : null,
    lines.length ? pre : null,
    ended ? h(`div.body-line${bad ? ".bad" : ""}`, ended) : null,
  ];
}
