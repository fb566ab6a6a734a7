// A small view of the metrics: what each stage does, memory, the queue.

import * as api from "./api.js";

const EVERY_MS = 4000;
/** Without a limit, the budget is the largest number of bytes there is. */
const NO_BUDGET = 1e18;

/** Series of a page in Prometheus' text format: a list of {name, labels, value}. */
export function parse(text) {
  const series = [];
  for (const line of text.split("\n")) {
    const match = /^([a-z_:]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match || line.startsWith("#")) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, "$1");
    }
    series.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return series;
}

class Moment {
  constructor(text) {
    this.at = performance.now() / 1000;
    this.series = parse(text);
  }
  all(name) {
    return this.series.filter((one) => one.name === name);
  }
  sum(name) {
    return this.all(name).reduce((sum, one) => sum + one.value, 0);
  }
  busy(stage) {
    return this.all("sora_stage_busy_seconds_sum").find((one) => one.labels.stage === stage)?.value ?? 0;
  }
}

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${count.toFixed(unit && count < 100 ? 1 : 0)}\u00a0${units[unit]}`;
}

const percent = (part) => `${Math.round(100 * part)}\u00a0%`;

/** Shows the metrics in `panel` for as long as the page is open and visible. */
export function watch(panel, view) {
  let before = null;
  const look = async () => {
    if (!document.hidden) {
      try {
        const now = new Moment(await api.metrics());
        draw(view, before, now);
        before = now;
        panel.hidden = false;
      } catch {
        // Metrics may be kept from us, or the server is away, which the list of videos tells.
        panel.hidden = true;
        before = null;
      }
    }
    setTimeout(look, EVERY_MS);
  };
  look();
}

function draw(view, before, now) {
  const rows = [];
  const seconds = before ? now.at - before.at : 0;
  const stages = now.all("sora_stage_busy_seconds_sum").map((one) => one.labels.stage);
  for (const stage of stages) {
    const part = before ? (now.busy(stage) - before.busy(stage)) / seconds : 0;
    const name = stage.replaceAll("_", " ");
    rows.push(...gauge(name, percent(Math.min(part, 1)), Math.min(part, 1), `${name}, busy`));
  }
  const used = now.sum("sora_memory_used_bytes");
  const budget = now.sum("sora_memory_budget_bytes");
  if (budget > 0 && budget < NO_BUDGET) {
    const told = `${bytes(used)} of\u00a0${bytes(budget)}`;
    rows.push(...gauge("memory", told, used / budget, "memory of the budget"));
  } else {
    rows.push(...fact("memory", bytes(used)));
  }
  rows.push(...fact("process", bytes(now.sum("process_resident_memory_bytes"))));
  const waiting = now.sum("sora_server_queue_prompts") + now.sum("sora_queue_depth_prompts");
  rows.push(...fact("prompts waiting", `${waiting}`));
  rows.push(...fact("steps computed", `${now.sum("sora_denoise_steps_computed_total")}`));
  const saved = now.sum("sora_denoise_steps_leapt_total") + now.sum("sora_denoise_steps_coasted_total");
  rows.push(...fact("steps saved", `${saved}`));
  const read = before ? now.sum("sora_block_read_bytes_total") - before.sum("sora_block_read_bytes_total") : 0;
  rows.push(...fact("reading weights", before ? `${bytes(read / seconds)}/s` : "…"));
  const facts = document.createElement("dl");
  facts.append(...rows);
  view.replaceChildren(facts);
}

function fact(name, value) {
  const term = document.createElement("dt");
  term.textContent = name;
  const told = document.createElement("dd");
  told.textContent = value;
  return [term, told];
}

function gauge(name, value, part, label) {
  const meter = document.createElement("meter");
  meter.max = 1;
  meter.value = part;
  meter.setAttribute("aria-label", label);
  const bar = document.createElement("dd");
  bar.className = "gauge";
  bar.append(meter);
  return [...fact(name, value), bar];
}
