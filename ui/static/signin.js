// Who is signed in: the ways in, the name in the bar, and what stands over the page when a sign-in has ended.

import { api } from "./api.js";
import { h } from "./dom.js";
import { field, sheet } from "./sheet.js";

const LOOK = 15_000; // ms between looks at the clock
const SORRY = "The page could not sign you out; try again.";

const over = ({ until }) => until !== null && Date.now() / 1000 >= until;

export class SignIn {
  /** `changed` is called when a sign-in has ended, or is good again. */
  constructor(health, changed) {
    Object.assign(this, { health, changed, ended: over(health) });
    this.element = health.way === "local" ? null : health.person ? this.name() : this.way("button");
    if (health.way === "local") return;
    setInterval(() => this.look(), LOOK);
    document.addEventListener("visibilitychange", () => document.hidden || this.ask());
  }

  look() {
    const ended = over(this.health);
    if (ended === this.ended) return;
    this.ended = ended;
    this.changed();
  }

  /** Somebody may have signed in, or out, in another tab. */
  async ask() {
    const health = await api.health().catch(() => this.health);
    if (health.person !== this.health.person) location.reload();
    this.health = health;
    this.look();
  }

  /** What opens the way in; null where there is none. */
  way(look, label = "Sign in") {
    const { way, space } = this.health;
    if (way === "token") return h(`button.plain.${look}`, { type: "button", onclick: () => this.prove(space) }, label);
    if (way !== "oauth") return null;
    // the Hub lets no other page frame its own
    const props = { href: this.address, target: window.top === window ? null : "_blank", rel: "opener" };
    return h(`a.plain.${look}`, { ...props, onclick: (event) => event.currentTarget.setAttribute("href", this.address) }, label);
  }

  get address() {
    const session = new URL(location.href).searchParams.get("session");
    return `${this.health.sign_in}${session ? `?session=${encodeURIComponent(session)}` : ""}`;
  }

  /** A Space of one's own. */
  duplicate(look) {
    const href = `https://huggingface.co/spaces/${this.health.space}?duplicate=true`;
    return h(`a.plain.${look}`, { href, target: "_blank", rel: "noopener" }, "Duplicate this Space");
  }

  /** The buttons of the first page for whoever is not signed in. */
  ways() {
    const { way, space } = this.health;
    const labels = { oauth: "Sign in with Hugging Face", token: "Sign in as its owner" };
    const enter = this.way("large", labels[way]);
    enter?.classList.replace("plain", "primary");
    const said = {
      oauth:
        "Sessions, files, jobs and models of yours are seen by you alone. The sign-in allows jobs, model calls and repositories that ML Intern makes for you; it reads no other repository.",
      token: `This Space works for ${space.split("/")[0]}, whose token it has. Duplicate it to have your own.`,
      none: "Nobody can sign in on this Space. A duplicate, or ML Intern on your own machine, is yours to use.",
    };
    return [h("div.hero-buttons", enter, this.duplicate("large")), h("p.hero-hint", said[way])];
  }

  /** What has to be said over every page; null when there is nothing. */
  banner() {
    const { way, person } = this.health;
    const bar = (sentence, ...acts) => h("div.banner", { role: "status" }, h("span", sentence), acts);
    if (person && this.ended)
      return bar("Your sign-in has ended: sessions wait for you, and jobs that run go on.", this.way("slim", "Sign in again"));
    if (person) return null;
    if (way === "none")
      return bar(
        "This Space is read-only: nobody can sign in here. Duplicate it, or run ML Intern on your own machine.",
        this.duplicate("slim"),
      );
    return document.body.dataset.page === "session" ? bar("Sign in to see your sessions.", this.way("slim")) : null;
  }

  name() {
    const { person } = this.health;
    const initial = h("span.initial", { "aria-hidden": "true" }, person[0].toUpperCase());
    const props = { type: "button", "aria-label": `signed in as ${person}`, onclick: () => this.about() };
    return h("button.account", props, initial, h("span.account-name", person));
  }

  about() {
    const { person, until } = this.health;
    const when = until && new Date(until * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const said = this.ended
      ? "The sign-in has ended: sessions wait, and jobs that run go on."
      : when
        ? `Your sessions may work until ${when}, also after you have signed out here.`
        : "Your sessions work with this Space's own token.";
    const send = async () => {
      await api.signOut().catch(() => {
        throw new Error(SORRY);
      });
      location.assign("/");
    };
    sheet({ title: `Signed in as ${person}`, body: h("p", said), action: "Sign out", send });
  }

  prove(space) {
    const token = h("input", { name: "token", type: "password", required: true, autocomplete: "off", placeholder: "hf_…" });
    const owner = space.split("/")[0];
    const hint = "It is shown to the Hub once, to see whose it is, and is not kept. One without any permission is enough.";
    const send = async ({ token: given }) => {
      await api.signIn(given);
      location.reload();
    };
    sheet({ title: "Is this Space yours?", body: field(`A token of ${owner}`, hint, token), action: "Sign in", send });
    token.focus();
  }
}
