// The REST door and the stream of facts, as functions.

async function call(method, path, body) {
  const options = { method };
  if (method !== "GET") {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body ?? {});
  }
  let answer;
  try {
    answer = await fetch(`/api${path}`, options);
  } catch {
    throw new Error("The server does not answer; the page tries again by itself.");
  }
  const json = answer.headers.get("content-type")?.startsWith("application/json");
  const content = json ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Error(content.error ?? `The server answered ${answer.status}.`);
  return content;
}

export const api = {
  health: () => call("GET", "/health"),
  sessions: () => call("GET", "/sessions"),
  open: (request) => call("POST", "/sessions", request),
  demo: (seed = 0) => call("POST", "/demo", { seed }),
  say: (id, text) => call("POST", `/sessions/${id}/say`, { text }),
  stop: (id) => call("POST", `/sessions/${id}/stop`),
  decide: (id, decision) => call("POST", `/sessions/${id}/decide`, decision),
  rename: (id, title) => call("POST", `/sessions/${id}/rename`, { title }),
  share: (id, isPublic) => call("POST", `/sessions/${id}/share`, { public: isPublic }),
  tune: (id, terms) => call("POST", `/sessions/${id}/tune`, terms),
  compact: (id) => call("POST", `/sessions/${id}/compact`),
  undo: (id) => call("POST", `/sessions/${id}/undo`),
  fork: (id, at = null) => call("POST", `/sessions/${id}/fork`, { at }),
  delete: (id) => call("DELETE", `/sessions/${id}`),
  signIn: (token) => call("POST", "/sign-in", { token }),
  signOut: () => call("POST", "/sign-out"),
  check: () => call("GET", "/check"),
  replays: () => call("GET", "/replays"),
  kept: (id) => call("GET", `/sessions/${id}/kept`),
  report: (id) => call("GET", `/sessions/${id}/report`),
  files: (id) => call("GET", `/sessions/${id}/files`),
  preview: (id, path) => call("GET", part(id, "preview", path)),
  log: (id, job) => call("GET", part(id, "jobs", `${job}/log`)),
  stopJob: (id, job) => call("POST", part(id, "jobs", `${job}/stop`)),
};

/** Each part of a path is quoted, and the slashes between them are not. */
const part = (id, verb, path) => `/sessions/${id}/${verb}/${path.split("/").map(encodeURIComponent).join("/")}`;

/** The address of a file of a session. */
export const address = (id, verb, path) => `/api${part(id, verb, path)}`;

const AGAIN = 1000; // ms from a cut to the next try
const LATER = 4000; // ms from trouble with the log to the next try: it may last, and each try reads all of it

/** Whether the server says that there is no such session; a server that says nothing does not. */
const gone = (id) =>
  fetch(`/api/sessions/${encodeURIComponent(id)}`).then(
    (answer) => answer.status === 404,
    () => false,
  );

/**
 * The facts of one session, each exactly once and in order, through cuts and hidden tabs. A hidden tab holds no
 * connection: browsers allow six to a server, all tabs together. Coming back asks for what came after the last fact.
 */
export class Stream {
  /** `typing` gets the text and the thought of the answer that is being written; "" and "" when there is none. */
  constructor(session, { facts, typing, linked, trouble }) {
    Object.assign(this, { session, seq: 0, source: null, retry: null, troubled: false, typed: ["", ""], facts, typing, linked, trouble });
    this.onVisible = () => (document.hidden ? this.pause() : this.resume());
    document.addEventListener("visibilitychange", this.onVisible);
    // after a sleep or a change of network a dead connection can look alive for minutes: ask anew
    this.onNetwork = () => {
      this.pause();
      this.resume();
    };
    for (const name of ["online", "offline"]) addEventListener(name, this.onNetwork);
    this.resume();
  }

  resume() {
    if (this.source || document.hidden) return;
    const source = new EventSource(`/api/sessions/${encodeURIComponent(this.session)}/events?after=${this.seq}`);
    this.source = source;
    // trouble is told at once: who was in it is well again when none comes for a moment
    source.onopen = () => setTimeout(() => this.source === source && this.well(), this.troubled ? AGAIN : 0);
    source.onmessage = (message) => {
      const fresh = JSON.parse(message.data).filter((fact) => fact.seq > this.seq);
      if (!fresh.length) return;
      this.seq = fresh[fresh.length - 1].seq;
      this.facts(fresh);
    };
    source.addEventListener("typing", (message) => this.type(JSON.parse(message.data)));
    source.addEventListener("trouble", (message) => {
      this.pause();
      this.troubled = true;
      this.trouble(`The page tries again by itself. ${message.data}`);
      this.again(LATER);
    });
    source.onerror = async () => {
      // We reconnect ourselves: a browser gives up for good when a proxy answers with an error page.
      this.linked(false);
      this.pause();
      if (this.seq === 0 && (await gone(this.session))) {
        this.close();
        this.trouble("There is no such session, or it is not yours.");
        return;
      }
      this.again(AGAIN);
    };
  }

  again(wait) {
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.resume(), wait);
  }

  well() {
    this.troubled = false;
    this.linked(true);
  }

  /** Each message says how much of the text before it stays. */
  type({ from, text, thought_from, thought }) {
    this.typed = [this.typed[0].slice(0, from) + text, this.typed[1].slice(0, thought_from) + thought];
    this.typing(...this.typed);
  }

  pause() {
    this.source?.close();
    this.source = null;
    this.type({ from: 0, text: "", thought_from: 0, thought: "" }); // what is written now is not known any more
  }

  close() {
    document.removeEventListener("visibilitychange", this.onVisible);
    for (const name of ["online", "offline"]) removeEventListener(name, this.onNetwork);
    clearTimeout(this.retry);
    this.pause();
  }
}
