// What the work panel asks the server for, beside the facts: files, jobs' logs, one job's stop.

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer; try again.");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.error ?? `The server answered ${answer.status}.`);
  return content;
}

/** The address of a file: each part of its path is quoted, and the slashes between them are not. */
export const address = (session, verb, path) =>
  `/api/sessions/${session}/${verb}/${path.split("/").map(encodeURIComponent).join("/")}`;

export const doors = {
  files: (session) => ask(`/api/sessions/${session}/files`),
  preview: (session, path) => ask(address(session, "preview", path)),
  log: (session, job) => ask(`${address(session, "jobs", job)}/log`),
  stop: (session, job) =>
    ask(`${address(session, "jobs", job)}/stop`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: "{}",
    }),
};
