// The player of a public log: one fetch, and then everything in the browser. It draws with the code of the live page
// and has nothing that acts: it never speaks to the server again.

import { h, icon, view } from "./dom.js";
import { Feed } from "./feed.js";
import { State } from "./fold.js";
import { switcher } from "./panes.js";
import { clock, events, LONGEST, shownAt, times } from "./timeline.js";
import { Top } from "./top.js";
import { Transcript } from "./transcript.js";
import { Work } from "./work.js";

const SPEEDS = ["1", "2", "4", "8", "16", "32", "64", "max"];
const SLICE = 12; // ms of work at a time, so that no task comes near the 50 ms that a person feels
const FRAME = 0.1; // seconds that one frame may count for: a replay out of sight gets no frames, and waits
const DEAD = "This is a replay: nothing can be decided here.";
const HERE = "-"; // the id of no session, so that what a panel might ask for is not there

export class Player {
  constructor(id, facts, { embed, speed }) {
    Object.assign(this, { id, facts, embed, at: times(facts), marks: events(facts), playing: false, last: 0 });
    this.end = this.at.at(-1) ?? 0;
    this.speed = SPEEDS.includes(speed) ? speed : "8";
    const now = () => Date.parse(this.state.now); // the log's own time, not today's
    this.top = new Top(view("top"), { menu: () => {}, now });
    this.work = new Replayed(view("work"), HERE, { recorded: true, now });
    view("feed").replaceChildren();
    view("composer").replaceChildren(this.bar());
    switcher();
    this.links();
    for (const root of [view("feed"), view("work")])
      new MutationObserver(() => deaden(root)).observe(root, { childList: true, subtree: true });
    addEventListener("keydown", (event) => {
      if (event.key !== " " || event.target !== document.body) return;
      event.preventDefault();
      this.toggle();
    });
    this.restart();
  }

  /** Begin again with no fact. The old transcript stays in sight until the new one is there. */
  restart() {
    this.shown = 0;
    this.state = new State();
    this.old ??= this.scroller;
    if (this.scroller !== this.old) this.scroller.remove();
    const list = h("div.feed", { role: "log", "aria-live": "off", "aria-label": "transcript" });
    this.scroller = h("div.scroller", { tabindex: "0", hidden: Boolean(this.old) }, list);
    view("feed").append(this.scroller);
    const acts = { decide: () => Promise.reject(new Error(DEAD)), openReport: () => {} };
    this.feed = new Feed(new Transcript(this.scroller, list), acts);
  }

  /** Show the replay as it is at a time. Forward adds what is missing; backward builds from the facts up to there. */
  seek(time) {
    this.time = Math.max(0, Math.min(this.end, time));
    this.aim(shownAt(this.at, this.time));
  }

  /** Show exactly so many facts, in slices. A later aim takes over from an earlier one. */
  aim(count) {
    this.goal = count;
    if (count < this.shown) this.restart();
    if (!this.busy) this.build();
    this.tell();
  }

  build() {
    this.add(this.goal, performance.now() + SLICE);
    this.busy = this.shown < this.goal;
    if (this.busy) setTimeout(() => this.build(), 0);
    else this.settle();
  }

  add(count, until) {
    while (this.shown < count && performance.now() < until) {
      const fact = this.facts[this.shown];
      this.shown += 1;
      if (this.state.add(fact)) this.feed.add(fact, this.state);
    }
  }

  settle() {
    this.scroller.hidden = false;
    this.old?.remove();
    this.old = null;
    this.feed.settle();
    this.work.draw(this.state);
    this.top.draw(this.state, HERE);
    this.tell();
  }

  play() {
    if (this.shown === this.facts.length) this.seek(0);
    this.playing = true;
    this.last = performance.now();
    requestAnimationFrame((now) => this.frame(now));
    this.tell();
  }

  pause() {
    this.playing = false;
    this.tell();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  frame(now) {
    if (!this.playing) return;
    const passed = Math.min(FRAME, Math.max(0, (now - this.last) / 1000));
    this.last = now;
    if (!this.busy) this.advance(passed);
    if (this.shown === this.facts.length && !this.busy) this.pause();
    else requestAnimationFrame((next) => this.frame(next));
  }

  /** One frame further: what is due, or as much as a frame can take. */
  advance(passed) {
    const due = this.speed === "max" ? this.end : Math.min(this.end, this.time + passed * Number(this.speed));
    const count = shownAt(this.at, due);
    const before = this.shown;
    this.add(count, performance.now() + SLICE);
    this.goal = this.shown;
    this.time = this.shown < count ? this.at[this.shown - 1] : due; // time waits for what is not drawn yet
    if (this.shown > before) this.settle();
    else this.tell();
  }

  /** Jump to the next finding, verdict or closing; after the last one to the end. */
  next() {
    const mark = this.marks.find(({ index }) => index >= this.shown);
    this.time = mark ? this.at[mark.index] : this.end;
    this.aim(mark ? mark.index + 1 : this.facts.length);
    this.said.textContent = mark?.label ?? "The end";
  }

  bar() {
    this.button = h("button.icon-button", { type: "button", onclick: () => this.toggle() });
    this.now = h("span.player-time.num");
    this.slider = h("input.player-slider", {
      type: "range",
      min: 0,
      max: this.end || 1,
      step: "any",
      "aria-label": "position",
      oninput: () => this.seek(Number(this.slider.value) >= this.end * 0.9999 ? this.end : Number(this.slider.value)),
    });
    const ticks = this.marks.map(({ index, kind, label }) => {
      const tick = h(`span.tick.${kind}`, { title: label });
      tick.style.left = `${(this.at[index] / (this.end || 1)) * 100}%`;
      return tick;
    });
    const track = h("div.player-track", this.slider, h("div.ticks", { "aria-hidden": "true" }, ticks));
    const choices = SPEEDS.map((speed) =>
      h("option", { value: speed, selected: speed === this.speed }, speed === "max" ? "Max" : `${speed}×`),
    );
    const pick = h("select.player-speed", { "aria-label": "speed", onchange: () => (this.speed = pick.value) }, choices);
    const next = h(
      "button.icon-button",
      { type: "button", "aria-label": "next event", title: "Next finding, verdict or closing", onclick: () => this.next() },
      icon("next"),
    );
    this.said = h("span.sr", { role: "status" });
    const note = `Recorded. Waits of more than ${LONGEST} s are cut to ${LONGEST} s.`;
    return h(
      "section.player",
      { "aria-label": "player" },
      h("div.player-bar", this.button, this.now, track, next, pick, this.said),
      h("div.player-note", note),
    );
  }

  tell() {
    const name = this.playing ? "pause" : "play";
    if (this.button.getAttribute("aria-label") !== name) {
      this.button.setAttribute("aria-label", name);
      this.button.replaceChildren(icon(name));
    }
    const text = `${clock(this.time ?? 0)} / ${clock(this.end)}`;
    if (this.now.textContent !== text) this.now.textContent = text;
    this.slider.value = this.time ?? 0;
    this.slider.style.setProperty("--share", `${((this.time ?? 0) / (this.end || 1)) * 100}%`);
    this.slider.setAttribute("aria-valuetext", `${text.replace("/", "of")}, fact ${this.shown} of ${this.facts.length}`);
    document.body.dataset.shown = this.shown;
  }

  links() {
    const bar = view("top").querySelector(".top");
    bar.prepend(h("span.chip.replay-mark", "Replay"));
    const wide = (text) => h("span.wide-only", text);
    if (this.embed) {
      const link = { href: this.address(false), target: "_blank", rel: "noopener" };
      bar.append(h("a.replay-act", link, "Open", wide("\u00a0in ML Intern"), "\u00a0↗"));
      return;
    }
    const label = () => [h("span.phone-only", "Embed"), wide("Copy embed code")];
    const copy = h("button.plain.replay-act", { type: "button", onclick: () => this.copy(copy, label) }, ...label());
    bar.append(copy);
  }

  /** Where this replay is: as a page of its own, or for a frame. */
  address(embed) {
    const made = new URL(location.pathname, location.origin);
    made.searchParams.set("replay", this.id);
    if (embed) made.searchParams.set("embed", "1");
    const theme = new URL(location.href).searchParams.get("__theme");
    if (theme) made.searchParams.set("__theme", theme);
    made.searchParams.set("speed", this.speed);
    return made.href;
  }

  async copy(button, label) {
    const title = (this.facts[0]?.goal?.text ?? "a session").replace(/[<>"&]/g, " ");
    const source = this.address(true).replaceAll("&", "&amp;");
    const code = `<iframe src="${source}" title="ML Intern: ${title}" width="100%" height="620" loading="lazy" style="border: 1px solid #ddd; border-radius: 12px"></iframe>`;
    try {
      await navigator.clipboard.writeText(code);
      button.textContent = "Copied";
      setTimeout(() => button.replaceChildren(...label()), 2000);
    } catch {
      // a page without https may not write to the clipboard
      const box = h("textarea.player-code", { readonly: true, "aria-label": "embed code", rows: 4 });
      box.value = code;
      this.code?.remove();
      this.code = box;
      view("composer").prepend(box);
      box.select();
    }
  }
}

/** The work pane of a replay: a public log has no files, and so no report. */
class Replayed extends Work {
  drawReport() {
    this.slots.Report.replaceChildren(h("div.empty", "The report and the files stay with the session; a replay has none."));
  }
}

/** Nothing in a replay acts, and no link leads to a file. */
function deaden(root) {
  for (const control of root.querySelectorAll(".ask :is(button, textarea):not(:disabled), .feed button.link:not(:disabled)"))
    control.disabled = true;
  for (const link of root.querySelectorAll('a[href^="/api/"]')) link.replaceWith(h("span.hint", "–"));
}

/** Build the player that an address asks for, or say in one sentence why there is none. */
export async function replay(asked) {
  const [id, embed] = [asked.get("replay"), asked.get("embed") === "1"];
  Object.assign(document.body.dataset, { page: "replay", ...(embed ? { embed: "yes" } : {}) });
  try {
    const answer = await fetch(`/api/replays/${encodeURIComponent(id)}`, { credentials: "omit" });
    if (!answer.ok) throw new Error((await answer.json()).error);
    const lines = (await answer.text()).split("\n").filter(Boolean);
    const player = new Player(id, lines.map((line) => JSON.parse(line)), { embed, speed: asked.get("speed") });
    player.seek(0);
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) player.play();
    return player;
  } catch (error) {
    view("feed").replaceChildren(h("div.banner", { role: "alert" }, error.message));
    return null;
  }
}
