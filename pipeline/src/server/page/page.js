// The page: the form, the list of videos kept up to date, the key.

import * as api from "./api.js";
import { Card, SETTINGS, UNSHOWN, isOver } from "./card.js";
import { watch } from "./machine.js";

/** How often the list is asked for. Videos in progress tell by themselves in between. */
const LIST_EVERY_MS = 3000;
const PAGE = 20;
/** A browser opens six connections to a server at most; the others must stay free for requests. */
const MOST_STREAMS = 3;

const byId = (id) => document.getElementById(id);
const cards = new Map();
const streams = new Map();
/** Whether it is known if there are older videos than those that the page shows. */
let isListed = false;
/** Settings of the video whose settings are in the form, as far as the form does not show them. */
let unshown = {};

function announce(text) {
  byId("announcer").textContent = text;
}

function trouble(error) {
  const notice = byId("notice");
  notice.textContent = error instanceof api.ApiError ? error.message : `The server cannot be reached: ${error.message}`;
  notice.hidden = false;
}

const actions = {
  reuse: fillForm,
  trouble,
  changed: (video) => show(video),
  removed(id) {
    forget(id);
    announce("The video is deleted.");
    byId("videos").focus();
  },
};

/** Takes a video off the page. */
function forget(id) {
  cards.get(id)?.close();
  cards.delete(id);
  streams.get(id)?.abort();
  tellCounts();
}

/** Brings a video's card up to date, or makes one, before the element `next` of the list (at its end when null). */
function show(video, next = byId("list").firstElementChild) {
  const card = cards.get(video.id);
  if (card) {
    const before = card.video.status;
    card.show(video);
    if (before !== card.video.status && isOver(card.video)) announceEnd(card.video);
  } else {
    const fresh = new Card(video, actions);
    cards.set(video.id, fresh);
    byId("list").insertBefore(fresh.element, next);
  }
  followThoseInProgress();
}

function announceEnd({ prompt, status, error }) {
  const what = error?.code === "cancelled" ? "cancelled" : status === "completed" ? "finished" : "failed";
  announce(`The video of “${prompt}” is ${what}.`);
}

function tellCounts() {
  const videos = [...cards.values()].map((card) => card.video);
  const waiting = videos.filter((video) => video.status === "queued").length;
  const working = videos.filter((video) => video.status === "in_progress").length;
  const told = [working && `${working} in progress`, waiting && `${waiting} waiting`].filter(Boolean);
  // Where the server does not say who is next, those that came first are: the last of the list.
  const inOrder = [...byId("list").children].reverse().map((element) => cards.get(element.dataset.id));
  inOrder.filter((card) => card?.video.status === "queued").forEach((card, place) => card.queued(place));
  byId("queue-length").textContent = told.length ? `· ${told.join(", ")}` : "";
  byId("empty").hidden = videos.length > 0;
}

function followThoseInProgress() {
  for (const { video } of cards.values()) {
    if (streams.size >= MOST_STREAMS) break;
    if (video.status === "in_progress" && !streams.has(video.id)) followOne(video.id);
  }
  tellCounts();
}

async function followOne(id) {
  const ending = new AbortController();
  streams.set(id, ending);
  const onEvent = (name, data) => {
    const card = cards.get(id);
    if (!card) return;
    if (name === "progress") {
      card.progress(data);
      tellCounts();
    } else if (data?.id === id) {
      show(data);
    }
  };
  try {
    await api.follow(id, onEvent, ending.signal);
  } catch {
    // The list tells how it goes on, and the next look at it begins again here.
  }
  streams.delete(id);
}

/** Looks at the newest videos, and by themselves at older ones that are not over. */
async function refresh() {
  const page = await api.list({ limit: PAGE });
  byId("notice").hidden = true;
  let newer = null;
  for (const video of page.data) {
    show(video, newer ? newer.element.nextElementSibling : undefined);
    newer = cards.get(video.id);
  }
  if (!isListed) {
    isListed = page.data.length > 0;
    byId("older").hidden = !page.has_more;
  }
  const seen = new Set(page.data.map((video) => video.id));
  for (const { video } of [...cards.values()]) {
    if (seen.has(video.id) || isOver(video)) continue;
    try {
      show(await api.retrieve(video.id));
    } catch (error) {
      if (error.status === 404) forget(video.id);
    }
  }
  forgetDeleted(page, seen);
  tellCounts();
}

/** Finished videos that somebody deleted elsewhere: all that is newer than the end of the newest page is on it. */
function forgetDeleted(page, seen) {
  const oldest = page.has_more ? cards.get(page.last_id)?.element : null;
  for (const element of [...byId("list").children]) {
    const { video } = cards.get(element.dataset.id);
    if (isOver(video) && !seen.has(video.id)) forget(video.id);
    if (element === oldest) return;
  }
}

async function keepRefreshing() {
  if (!document.hidden) await refresh().catch(trouble);
  setTimeout(keepRefreshing, LIST_EVERY_MS);
}

/** The videos behind the last one that the page shows and that is still there. */
async function listOlder() {
  for (;;) {
    const after = byId("list").lastElementChild?.dataset.id;
    try {
      return await api.list({ limit: PAGE, after });
    } catch (error) {
      if (error.param !== "after") throw error;
      // It was deleted elsewhere.
      forget(after);
    }
  }
}

byId("older").addEventListener("click", async () => {
  try {
    const page = await listOlder();
    page.data.forEach((video) => show(video, null));
    byId("older").hidden = !page.has_more;
  } catch (error) {
    trouble(error);
  }
});

const NUMBERS = ["steps", "cfg_scale", "frames"];

/** What was filled in; what was not is the server's choice. */
function settings(form) {
  const wish = { prompt: form.elements.prompt.value, ...unshown };
  for (const name of SETTINGS) {
    const text = form.elements[name].value.trim();
    if (text !== "") wish[name] = NUMBERS.includes(name) ? Number(text) : text;
  }
  return wish;
}

function fillForm(video) {
  const form = byId("form");
  byId("form-error").hidden = true;
  form.elements.prompt.value = video.prompt ?? "";
  for (const name of SETTINGS) {
    const field = form.elements[name];
    const isOff = field.type === "number" && video[name] === "off";
    field.value = isOff ? "" : video[name] ?? "";
  }
  unshown = Object.fromEntries(UNSHOWN.filter((name) => video[name] != null).map((name) => [name, video[name]]));
  // The number of frames says the length exactly; seconds are for people.
  if (video.frames != null) form.elements.seconds.value = "";
  byId("settings").open ||= ["steps", "cfg_scale", "lpl", "tdtm", "coast", "frames", "negative_prompt"].some(
    (name) => video[name] != null && !["", "off"].includes(video[name]),
  );
  announce("The settings are in the form.");
  form.elements.prompt.focus();
  form.scrollIntoView({ block: "nearest" });
}

byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const told = byId("form-error");
  told.hidden = true;
  api.allowAsking();
  byId("submit").disabled = true;
  try {
    const video = await api.create(settings(form));
    show(video);
    announce("The prompt is accepted.");
    form.elements.prompt.select();
  } catch (error) {
    told.textContent = error.message;
    told.hidden = false;
    const field = error.param && form.elements[error.param];
    if (field) {
      if (byId("settings").contains(field)) byId("settings").open = true;
      field.focus();
    }
  }
  byId("submit").disabled = false;
});

byId("form").addEventListener("reset", () => {
  byId("form-error").hidden = true;
  unshown = {};
});

byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    byId("form").requestSubmit();
  }
});

function askForKey() {
  const dialog = byId("key-dialog");
  byId("key").value = "";
  dialog.returnValue = "leave";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "use";
      if (given) api.setKey(byId("key").value.trim());
      resolve(given);
    }, { once: true });
  });
}

api.onKeyWanted(askForKey);
byId("key-button").addEventListener("click", async () => {
  api.allowAsking();
  if (await askForKey()) refresh().catch(trouble);
});

api.models().then((models) => {
  byId("model").textContent = models.data?.map((model) => model.id).join(", ") ?? "";
}).catch(() => {});
keepRefreshing();
watch(byId("machine"), byId("machine-view"));
