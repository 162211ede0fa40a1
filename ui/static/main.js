// The page: which session is open, and who draws it. `?session=` in the address is the only state of its own.

import { api, Stream } from "./api.js";
import { Composer } from "./composer.js";
import { h, view } from "./dom.js";
import { Drawer } from "./drawer.js";
import { answers, Feed } from "./feed.js";
import { State } from "./fold.js";
import { Notifier } from "./notify.js";
import { pane, switcher } from "./panes.js";
import { replay } from "./replay.js";
import { SignIn } from "./signin.js";
import { hero, NewSession } from "./start.js";
import { Steer } from "./steer.js";
import { Top } from "./top.js";
import { Transcript } from "./transcript.js";
import { Work } from "./work.js";

const GO_ON = "Go on where you stopped.";
const VIEWS = ["top", "drawer", "feed", "composer", "work", "switch"];
const BACKLOG = 300; // facts in one message; so many are the past, and more of it is under way
const PAST = 50; // ms to wait for the next part of the past, so that the page is drawn once and not for each part
const HURRY = 400; // ms after which what has come is drawn anyway
const SHARE = 4; // what stands around the transcript rests this many times as long as its last drawing took
const SLICE = 12; // ms of work at a time, so that no task comes near the 50 ms that a person feels

class Page {
  constructor(health) {
    this.health = health;
    this.queue = [];
    this.notices = h("div.notices");
    this.signIn = new SignIn(health, () => this.tellSignIn());
    this.dialog = new NewSession(health, (id) => this.go(id));
    this.drawer = new Drawer({
      open: (id) => this.go(id),
      create: () => this.dialog.show(),
      readOnly: health.read_only,
    });
    this.notifier = new Notifier(() => this.session);
    this.steer = new Steer({
      open: (id) => this.go(id),
      fail: (error) => this.fail(error),
      notifier: this.notifier,
    });
    this.top = new Top(view("top"), {
      menu: () => this.drawer.show(),
      actions: [health.read_only ? null : this.steer.element, this.signIn.element],
    });
    this.composer = new Composer(view("composer"), {
      say: (text) => api.say(this.session, text),
      stop: () => this.act(api.stop(this.session)),
      tune: (terms) => this.act(api.tune(this.session, terms)),
      terms: () => this.steer.tune(),
    });
    view("drawer").append(this.drawer.dialog);
    switcher();
    view("feed").addEventListener("scroll", () => this.advise(this.state), { capture: true, passive: true });
    addEventListener("popstate", () => this.open(this.wanted));
    addEventListener("keydown", (event) => this.key(event));
    this.open(this.wanted);
  }

  get wanted() {
    return new URL(location.href).searchParams.get("session");
  }

  /** Lead the address to a session (null: the start) and open it. */
  go(id) {
    const address = new URL(location.href);
    if (id) address.searchParams.set("session", id);
    else address.searchParams.delete("session");
    history.pushState(null, "", address);
    this.open(id);
  }

  open(id) {
    this.stream?.close();
    Object.assign(this, { session: id, state: new State(), queue: [], typed: null, feed: null, work: null, stream: null });
    document.body.dataset.page = id ? "session" : "start";
    this.tellSignIn();
    this.drawer.selected = id;
    this.composer.enable(Boolean(id) && !this.health.read_only);
    this.top.draw(this.state, id);
    this.steer.draw(this.state, id);
    this.composer.tell(null);
    pane("chat");
    if (!id) {
      document.title = "ML Intern";
      const start = {
        create: (preset) => this.dialog.show(preset),
        go: (one) => this.go(one),
        fail: (error) => this.fail(error),
      };
      view("feed").replaceChildren(this.notices, hero(this.health, this.signIn, start));
      view("work").replaceChildren();
      return;
    }
    this.transcript(id);
  }

  transcript(id) {
    this.since = null;
    const list = h("div.feed", { role: "log", "aria-live": "polite", "aria-label": "transcript" });
    const scroller = h("div.scroller", { tabindex: "0" });
    this.banner = h("div.banner", { role: "status", hidden: true });
    view("feed").replaceChildren(this.notices, this.banner, scroller);
    const openReport = () => {
      this.work.show("Report");
      pane("work");
    };
    this.feed = new Feed(new Transcript(scroller, list), {
      decide: (call, allow, args) => api.decide(id, { call, allow, ...(args ? { arguments: args } : {}) }),
      openReport,
      fork: this.health.read_only ? null : (at) => this.act(this.steer.fork(at)),
    });
    this.work = new Work(view("work"), id, { trackio: !this.health.space }); // its database is everybody's
    this.stream = new Stream(id, {
      facts: (facts) => this.take(facts),
      typing: (text, thought) => this.type(text, thought),
      linked: (up) => this.tell(up ? "" : "The connection is cut; trying again. Nothing is lost."),
      trouble: (sentence) => this.tell(sentence),
    });
  }

  /** What is to be said about who is here. */
  tellSignIn() {
    this.notices.replaceChildren(...[this.signIn.banner()].filter(Boolean));
  }

  tell(sentence) {
    this.banner.textContent = sentence;
    this.banner.hidden = sentence === "";
  }

  fail(error) {
    const note = h("div.toast", { role: "alert" }, error.message);
    document.body.append(note);
    setTimeout(() => note.remove(), 6000);
  }

  act(promise) {
    return promise.catch((error) => this.fail(error));
  }

  take(facts) {
    const idle = this.queue.length === 0;
    this.queue.push(...facts);
    this.since ??= performance.now();
    if (facts.some(answers)) this.typed = null;
    if (idle) this.pump(this.state, facts.length >= BACKLOG);
  }

  /** What is being written is shown once every fact before it is. */
  type(text, thought) {
    this.typed = [text, thought];
    if (this.queue.length === 0 && this.state.active) this.feed.typing(text, thought);
  }

  /** Take in what has come, a slice at a time. A session that was left in between takes no more. */
  pump(state, past = false) {
    if (state !== this.state) return;
    const until = performance.now() + SLICE;
    let done = 0;
    while (done < this.queue.length && performance.now() < until) {
      const fact = this.queue[done];
      done += 1;
      if (state.add(fact)) this.feed.add(fact, state);
    }
    this.queue.splice(0, done);
    clearTimeout(this.drawing);
    const wait = past && performance.now() - this.since < HURRY ? PAST : 0;
    if (this.queue.length) setTimeout(() => this.pump(state, past), 0);
    else if (wait) this.drawing = setTimeout(() => this.draw(state), wait);
    else this.draw(state);
  }

  /** Draw the transcript now, and what stands around it after the frame that shows it: the curves of many runs take long. */
  draw(state) {
    if (state !== this.state) return;
    this.since = null;
    this.feed.settle();
    if (this.typed && state.active) this.feed.typing(...this.typed);
    this.around ??= requestAnimationFrame(() => setTimeout(() => this.drawAround(), this.rest ?? 0));
  }

  drawAround() {
    this.around = null;
    if (!this.work) return;
    const start = performance.now();
    this.work.draw(this.state);
    this.top.draw(this.state, this.session);
    this.composer.draw(this.state);
    this.steer.draw(this.state, this.session);
    this.advise(this.state);
    this.drawer.touch(this.session, this.state);
    this.rest = Math.min(1000, SHARE * (performance.now() - start));
  }

  /** What a person has to know now, and the one thing to do about it. */
  advise(state) {
    const resume = () => this.act(api.say(this.session, GO_ON));
    const last = state.closed && state.closed.seq > (state.halted?.seq ?? 0) ? state.closed : null;
    if (!this.feed || !state.opened || (state.active && !state.waiting.length)) this.composer.tell(null);
    else if (state.active && this.feed.questionInSight()) this.composer.tell(null);
    else if (state.active) this.composer.tell("A decision waits for you.", "Show it", () => this.feed.showQuestion());
    else if (last?.outcome === "out_of_budget") this.composer.tell(`${last.reason}.`, "Raise the caps", () => this.steer.tune());
    else if (last?.outcome === "provider_failed" || last?.outcome === "failed") this.composer.tell(last.reason, "Resume", resume);
    else if (last?.outcome === "needs_person") this.composer.tell(last.reason, "Answer", () => this.composer.box.focus());
    else if (last?.outcome === "done") this.composer.tell(null);
    else this.composer.tell("Stopped.", "Resume", resume);
  }

  /** Escape stops the session where a person follows it. Elsewhere it leaves a menu, a list, a field or a file, and no more. */
  stops(event) {
    const at = event.target;
    if (event.repeat || event.isComposing || event.defaultPrevented || document.querySelector(":popover-open")) return false;
    if (at === document.body) return !["Files", "Report"].includes(this.work.tab);
    if (at.closest("input, textarea, select") && at !== this.composer.box) return false;
    return Boolean(at.closest('[data-view="feed"], [data-view="composer"]'));
  }

  key(event) {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      pane("chat");
      this.composer.box.focus();
    } else if (event.key === "Escape" && this.session && this.state.active && !this.health.read_only && this.stops(event)) {
      this.act(api.stop(this.session));
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const waiting = view("feed").querySelector(".ask.open .approve");
      if (!waiting) return;
      event.preventDefault();
      waiting.click();
    }
  }
}

let started = false;
async function start() {
  if (started || !VIEWS.every(view)) return;
  started = true;
  const asked = new URL(location.href).searchParams;
  if (asked.has("replay")) await replay(asked);
  else new Page(await api.health().catch(() => ({ read_only: true, driver: "", person: "", way: "none", until: null, space: "" })));
  document.body.dataset.ready = "yes";
}
document.addEventListener("ml-intern:mounted", start);
start();
