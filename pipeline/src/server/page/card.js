// One video on the page: where it is, what can be seen of it, what can be done with it.

import * as api from "./api.js";

/** A preview is asked for no more often than this: each one is work for the decoder. */
const PREVIEW_EVERY_MS = 2500;
/** The first answer is that there is none yet; it is made after one of the next steps. */
const PREVIEW_AGAIN_MS = 300;

/** Fields of a video that are settings and that the form shows. */
export const SETTINGS = [
  "size", "seconds", "seed", "steps", "cfg_scale", "lpl", "tdtm", "coast", "frames", "negative_prompt",
];

/** Settings that the form does not show; they come along when those of a video are used again. */
export const UNSHOWN = ["fps", "aesthetic_score", "motion_score", "camera_motion", "priority"];

const STATUS = { queued: "waiting", in_progress: "in progress", completed: "finished", failed: "failed" };

const STAGES = {
  queued: "waiting for its turn",
  embedding: "reading the prompt",
  denoising: "denoising",
  decoding: "decoding frames",
};

export const isOver = (video) => video.status === "completed" || video.status === "failed";

export class Card {
  /** `actions` has `reuse(video)`, `removed(id)`, `changed(video)` and `trouble(error)`. */
  constructor(video, actions) {
    this.actions = actions;
    const template = document.getElementById("card");
    this.element = template.content.firstElementChild.cloneNode(true);
    this.part = (name) => this.element.querySelector(`.${name}`);
    this.part("cancel").addEventListener("click", () => this.cancel());
    this.part("play").addEventListener("click", () => this.play());
    this.part("delete").addEventListener("click", () => this.remove());
    this.part("reuse").addEventListener("click", () => actions.reuse(this.video));
    this.lastPreview = 0;
    this.show(video);
  }

  /** Shows the video as the server tells it; what events told beside it stays. */
  show(video) {
    this.video = { ...this.video, ...video, ...video.settings };
    const { id, prompt, status, error } = this.video;
    this.element.dataset.id = id;
    this.part("prompt").textContent = prompt ?? "";
    const chip = this.part("chip");
    const cancelled = error?.code === "cancelled";
    chip.textContent = cancelled ? "cancelled" : STATUS[status] ?? status;
    chip.className = `chip ${cancelled ? "" : status}`;
    this.part("where").textContent = this.where();
    const bar = this.part("bar");
    bar.hidden = status !== "in_progress";
    bar.value = this.video.progress ?? 0;
    bar.setAttribute("aria-label", `progress of ${prompt}`);
    this.part("facts").textContent = this.facts();
    this.part("error").hidden = !error || cancelled;
    this.part("error").textContent = error?.message ?? "";
    this.part("cancel").hidden = isOver(this.video);
    this.part("delete").hidden = !isOver(this.video);
    if (status === "completed") this.showFinished();
    if (status === "failed") this.showStill(null);
    this.showPicture();
  }

  /** Without anything to see there is no empty frame either. */
  showPicture() {
    const bare = this.part("still").hidden && this.part("film").hidden;
    this.element.querySelector("article").classList.toggle("bare", bare);
  }

  /** Shows a still picture, or none; the one before is let go. */
  showStill(url, what) {
    const image = this.part("still");
    api.letGo(image.src);
    image.hidden = url === null;
    if (url === null) image.removeAttribute("src");
    else image.src = url;
    image.alt = url === null ? "" : `${what} of ${this.video.prompt}`;
    this.showPicture();
  }

  /** What an event of a video in progress told. */
  progress(event) {
    const { status, progress, stage, step, steps, queue_position } = event;
    this.show({ ...(status && { status }), progress, stage, step, total_steps: steps, queue_position });
    if (this.video.status === "in_progress") this.askForPreview();
  }

  /** So many wait before this one, as far as the page knows. */
  queued(place) {
    if (Number.isInteger(this.video.queue_position)) return;
    this.part("where").textContent = `number ${place + 1} in the queue`;
  }

  where() {
    const { status, stage, step, total_steps, queue_position, progress } = this.video;
    if (status === "queued") {
      return Number.isInteger(queue_position) ? `number ${queue_position + 1} in the queue` : "";
    }
    if (status !== "in_progress") return "";
    const doing = STAGES[stage] ?? stage ?? "";
    const steps = step != null && total_steps && doing === "denoising" ? `, step ${step} of ${total_steps}` : "";
    return [doing + steps, `${progress ?? 0}\u00a0%`].filter(Boolean).join(" · ");
  }

  facts() {
    const { video } = this;
    const facts = SETTINGS.filter((name) => video[name] != null && !["", "off"].includes(video[name]));
    const told = facts.map((name) => `${name.replaceAll("_", " ")} ${video[name]}`);
    if (video.completed_at && video.created_at) told.push(`made in ${duration(video.completed_at - video.created_at)}`);
    return told.join(" · ");
  }

  async askForPreview() {
    const now = performance.now();
    if (now - this.lastPreview < PREVIEW_EVERY_MS || document.hidden) return;
    this.lastPreview = now;
    const picture = await api.preview(this.video.id).catch(() => null);
    if (!picture) this.lastPreview += PREVIEW_AGAIN_MS - PREVIEW_EVERY_MS;
    if (picture && !isOver(this.video) && this.element.isConnected) this.showStill(URL.createObjectURL(picture), "preview");
  }

  /** A finished video is a picture until it is played, so that a long list loads no films. */
  async showFinished() {
    if (this.finished) return;
    this.finished = true;
    this.part("play").hidden = false;
    try {
      this.showStill((await api.content(this.video.id, "thumbnail")).url, "middle frame");
    } catch (error) {
      this.actions.trouble(error);
    }
  }

  async play() {
    const film = this.part("film");
    try {
      if (!film.src) {
        const { url, name } = await api.content(this.video.id, "video");
        film.src = url;
        const link = this.part("download");
        link.href = url;
        link.download = name;
        link.hidden = false;
      }
      film.setAttribute("aria-label", `the video of ${this.video.prompt}`);
      film.hidden = false;
      this.showStill(null);
      await film.play();
      this.part("play").hidden = true;
      film.focus();
    } catch (error) {
      this.actions.trouble(error);
    }
  }

  /** The card leaves the page. */
  close() {
    this.element.remove();
    api.letGo(this.part("still").src);
    api.letGo(this.part("film").src);
  }

  async cancel() {
    await this.whileDisabled("cancel", async () => this.actions.changed(await api.cancel(this.video.id)));
  }

  async remove() {
    if (!confirm(`Delete the video “${this.video.prompt}”?`)) return;
    await this.whileDisabled("delete", async () => {
      await api.remove(this.video.id);
      this.actions.removed(this.video.id);
    });
  }

  async whileDisabled(name, work) {
    const button = this.part(name);
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      this.actions.trouble(error);
    }
    button.disabled = false;
  }
}

function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
