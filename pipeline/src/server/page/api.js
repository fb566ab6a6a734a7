// How the page talks to the server: requests with the key, and events as they come.

const KEY = "sora-api-key";

/** What the server said when it refused. */
export class ApiError extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.param = error?.param ?? null;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

let declined = false;
let askForKey = async () => false;

/** `ask` is called when the server wants a key; it resolves to whether there is a new one. */
export function onKeyWanted(ask) {
  // Requests that are refused together ask together, and who left the question is not asked again and again.
  let asking = null;
  askForKey = async () => {
    if (declined) return false;
    asking ??= ask().finally(() => { asking = null; });
    declined = !(await asking);
    return !declined;
  };
}

/** The next refusal may ask for a key again: somebody does something. */
export function allowAsking() {
  declined = false;
}

async function send(path, options = {}) {
  const sentKey = sessionStorage.getItem(KEY);
  const headers = new Headers(options.headers);
  if (sentKey) headers.set("Authorization", `Bearer ${sentKey}`);
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  if (answer.status === 401 && !options.quietly) {
    // Somebody may have given another key meanwhile.
    const another = sessionStorage.getItem(KEY) !== sentKey || (await askForKey());
    if (another) return send(path, options);
  }
  const body = await answer.json().catch(() => null);
  throw new ApiError(answer.status, body?.error);
}

/** Seeds have up to 64 bits, more than a number here holds, so they stay text; the server takes them as text, too. */
const parse = (text) => JSON.parse(text.replaceAll(/"seed":\s*(\d+)/g, '"seed":"$1"'));

const json = async (path, options) => parse(await (await send(path, options)).text());
const video = (id) => `v1/videos/${encodeURIComponent(id)}`;

export const models = () => json("v1/models");
export const retrieve = (id) => json(video(id));
export const cancel = (id) => json(`${video(id)}/cancel`, { method: "POST" });
export const remove = (id) => json(video(id), { method: "DELETE" });
export const metrics = async () => (await send("metrics", { quietly: true })).text();

export const create = (settings) =>
  json("v1/videos", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(settings),
  });

export function list({ after, limit }) {
  const query = new URLSearchParams({ limit, order: "desc" });
  if (after) query.set("after", after);
  return json(`v1/videos?${query}`);
}

/** The picture of an unfinished video, or null while there is none. */
export async function preview(id) {
  try {
    return await (await send(`${video(id)}/preview`, { quietly: true })).blob();
  } catch (error) {
    if (error instanceof ApiError) return null;
    throw error;
  }
}

/**
 * Where an element can load a video or its thumbnail from, and what to call it where the server's answer is not there to say:
 * an element sends no key, so with one the bytes are fetched here, and whoever asked has to let go of them.
 */
export async function content(id, variant) {
  const path = `${video(id)}/content?variant=${variant}`;
  if (!hasKey()) return { url: path, name: "" };
  const bytes = await (await send(path)).blob();
  return { url: URL.createObjectURL(bytes), name: `${id}.${bytes.type.split("/").pop()}` };
}

/** Lets go of bytes that an address stands for. */
export function letGo(url) {
  if (url.startsWith("blob:")) URL.revokeObjectURL(url);
}

/** Calls `onEvent(name, data)` for each event of a video until the server ends or `signal` does. */
export async function follow(id, onEvent, signal) {
  const headers = { Accept: "text/event-stream" };
  const answer = await send(`${video(id)}/events`, { headers, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value.replaceAll("\r", "");
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const event = parseEvent(part);
      if (event) onEvent(event.name, event.data);
    }
  }
}

/** One server-sent event; null for comments, which keep the connection alive. */
function parseEvent(part) {
  let name = "message";
  const data = [];
  for (const line of part.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).trim());
  }
  if (data.length === 0) return null;
  try {
    return { name, data: parse(data.join("\n")) };
  } catch {
    return null;
  }
}
