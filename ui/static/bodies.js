// What a tool's row shows when it is opened: one reader for a tool that has more to show than JSON.

import { block } from "./code.js";
import { diff } from "./diff.js";
import { h } from "./dom.js";
import { terminal } from "./terminal.js";
import { seconds } from "./words.js";

/** The elements of a finished call. `before` is what this feed knew of the file that it wrote, or null. */
export function body(started, finished, before) {
  return (finished.ok && BODIES[started.name]?.(started.arguments, finished, before)) || plain(started, finished);
}

/** A command can fail while its tool does not. */
export const failed = (finished) =>
  !finished.ok || (finished.name === "shell" && /^\{"ended": "(?!exit code 0")/.test(finished.output));

const BODIES = {
  shell: (given, finished) => {
    const ran = parsed(finished.output);
    if (typeof given.command !== "string" || typeof ran?.output !== "string") return null;
    const bad = failed(finished);
    const ended = [String(ran.ended), seconds(ran.seconds)].filter(Boolean).join(" · ");
    return terminal({ command: given.command, output: ran.output, ended, bad });
  },
  write_file: (given, finished, before) =>
    typeof given.text === "string" ? diff(String(given.path), before, given.text) : null,
  read_file: (given, finished) => {
    const path = String(given.path);
    return [h("div.body-line", path), block(finished.output, path, `content of ${path}`)];
  },
  job_log: (given, finished) => terminal({ output: finished.output }),
};

function plain({ name, arguments: given }, { output }) {
  const command = typeof given.command === "string" ? given.command : "";
  const json = (value, label) => block(JSON.stringify(value, null, 2), "json", `${label} of ${name}`);
  const told = parsed(output);
  return [
    !command && Object.keys(given).length ? json(given, "arguments") : null,
    ...terminal({ command, output: told === null ? output : "" }),
    told === null ? null : json(told, "output"),
  ];
}

/** An object or a list, from text that is JSON; else null. */
function parsed(text) {
  if (!/^\s*[{[]/.test(text)) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
