"use strict";
// All values come from manifests of other teams: they reach the page through textContent and attributes alone.
const { summary, columns, rows: values, figures, page } = JSON.parse(document.getElementById("data").textContent);
const rows = values.map((found, index) => {  // a loop, because a page may have 20,000 rows of 80 columns
  const row = {};
  for (let i = 0; i < columns.length; i += 1) row[columns[i]] = found[i];
  row.index = index;
  return row;
});
const byId = (id) => document.getElementById(id);
const PAGE = 50, VERDICTS = ["fail", "review", "pass"], NONE = "(none)";
const SIGNS = { pass: "✓ pass", review: "? review", fail: "✕ fail", approved: "✓ approved by a person" };
const REVIEWS = { unreviewed: "not reviewed", approved: "✓ approved", retake: "↻ another take", mine: "marked here" };
const OWN = page.own || [];
const COLUMNS = [
  ["clip_id", "Clip"], ["review", "Review"], ["qc_status", "Quality"], ["status", "Status"], ["findings", "Findings"], ["language", "Language"],
  ["speaker", "Speaker"], ...OWN.slice(0, 3).map((name) => [name, name]), ["duration", "Seconds", 1],
  ...(rows.some((row) => row.preset && row.preset !== "web") ? [["preset", "Preset"]] : []), ...(rows.some((row) => row.timecode) ? [["timecode", "Time code"]] : []),  // most runs have neither
  ["takes", "Takes", 0], ["qc_lip_correlation", "Lips", 2],
];

function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
const number = (value, digits = 2) => typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: digits }) : "";
const reasonsOf = (row) => row.status === "done" ? row.qc_reasons || [] : [row.error_code];
const messagesOf = (row) => row.status === "done" ? row.qc_messages || [] : [`${row.error_code}: ${row.error_message}`];
// A person's approval counts as such: what was measured stays in sight.
const qualityOf = (row) => row.review === "approved" && (row.qc_reasons || []).length ? "approved" : row.qc_status;
const compared = new Intl.Collator().compare;  // many times as fast as localeCompare
const countBy = (keys) => keys.reduce((found, key) => found.set(key, (found.get(key) || 0) + 1), new Map());
const sorted = (counts) => [...counts].sort((a, b) => b[1] - a[1] || compared(String(a[0]), String(b[0])));
for (const row of rows) {
  const messages = messagesOf(row);
  row.findings = messages.length > 1 ? `${messages[0]} (and ${messages.length - 1} more)` : messages[0] || "";
}

// --- State: filters, order, page, view and open clip, all of it in the address ---------------------------------
const FILTERS = ["text", "review", "quality", "status", "reason", "language", "speaker", "own"];
let state = {};
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = { sort: given.get("sort") || "", view: given.get("view") === "grid" ? "grid" : "table", page: Math.max(0, Number(given.get("page")) || 0), clip: given.get("clip") };
  for (const name of FILTERS) state[name] = given.get(name) || "";
}
function writeAddress() {
  const given = new URLSearchParams();
  for (const name of [...FILTERS, "sort", "clip"]) if (state[name]) given.set(name, state[name]);
  if (state.page) given.set("page", state.page);
  if (state.view === "grid") given.set("view", "grid");
  try { history.replaceState(null, "", "#" + given); } catch { /* some viewers forbid it */ }
}

// --- Totals and charts -------------------------------------------------------------------------------------------
const tile = ([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value));
function showTotals() {
  byId("subtitle").textContent = [`run ${summary.run || "unknown"}`, summary.state, summary.manifest,
    summary.updated ? new Date(summary.updated * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC" : ""].filter(Boolean).join(" · ");
  if (rows.some((row) => row.model_trained === false)) {
    byId("untrained").hidden = false;
    byId("untrained").textContent = "The model of these clips is UNTRAINED: the videos show noise instead of faces, and quality control checks only the files.";
  }
  const whole = page.whole && Object.fromEntries(["statuses", "verdicts", "errors", "reasons"].map((name) => [name, new Map(Object.entries(page.whole[name]))]));
  if (whole) {
    byId("parts").hidden = false;
    byId("parts").append(`Part ${page.part} of ${page.names.length}: clips that are not done or need a look come first. The totals are those of the whole run; the clips, filters and distributions below are those of this part. Parts: `,
      ...page.names.flatMap((name, i) => [element("a", i + 1 === page.part ? { "aria-current": "page" } : { href: name }, String(i + 1)), " "]));
  }
  const statuses = whole ? whole.statuses : countBy(rows.map((row) => row.status)), verdicts = whole ? whole.verdicts : countBy(rows.map(qualityOf).filter(Boolean));
  byId("totals").append(...[["clips", number(whole ? page.whole.clips : rows.length)],
    ...["done", "failed", "rejected", "quarantined"].filter((s) => s === "done" || statuses.get(s)).map((s) => [s, number(statuses.get(s) || 0)]),
    ...[...VERDICTS, "approved"].filter((v) => v !== "approved" || verdicts.get(v)).map((v) => [v === "approved" ? "approved by a person" : "quality: " + v, number(verdicts.get(v) || 0)])].map(tile));
  const hours = (summary.render_workers || 0) * (summary.rendering_seconds || 0) / 3600, gpus = summary.gpus_per_worker || 0;
  byId("run").append(...[["total video, s", number(whole ? page.whole.seconds : rows.reduce((sum, row) => sum + (row.duration || 0), 0), 0)],
    [gpus ? "GPU-hours of this run" : "worker-hours of this run (no GPU)", number(hours * (gpus || 1), hours < 1 ? 3 : 1)],
    ["frames per second in this run", summary.rendering_seconds ? number(summary.frames / summary.rendering_seconds, 1) : "–"],
    ["retakes in this run", number(summary.retakes || 0)],
    ["render workers idle", typeof summary.render_idle_share === "number" ? number(100 * summary.render_idle_share, 0) + " %" : "–"]].map(tile));
  const bars = (list, counts) => {
    const found = sorted(counts).slice(0, 12), most = Math.max(1, ...found.map(([, n]) => n));
    list.append(...(found.length ? found.map(([code, n]) => {
      const bar = element("i");
      bar.style.width = 100 * n / most + "%";
      return element("li", {}, element("button", { type: "button", title: sentenceOf(code) || "Show these clips", onclick: () => choose("reason", code) }, element("span", {}, code), bar, element("b", {}, number(n))));
    }) : [element("li", {}, "nothing")]));
  };
  bars(byId("errors"), whole ? whole.errors : countBy(rows.filter((row) => row.status !== "done").map((row) => row.error_code)));
  bars(byId("reasons"), whole ? whole.reasons : countBy(rows.filter((row) => row.status === "done").flatMap(reasonsOf)));
}
// What a code of quality control is about: the sentence of its metric.
const sentenceOf = (code) => (figures["qc_" + String(code).replace(/_(high|low)$/, "")] || [])[1] || "";

function histogram(name) {
  const found = rows.map((row) => row[name]).filter((v) => typeof v === "number").sort((a, b) => a - b);
  const low = found[0], high = found[found.length - 1], title = name.slice(3).replaceAll("_", " "), [unit, text] = figures[name] || ["", ""];
  if (!found.length) return null;
  if (low === high) return `${title} ${number(low, 3)} ${unit}`.trim();  // one value has no distribution
  const bins = new Array(24).fill(0);
  for (const v of found) bins[Math.min(23, Math.floor(24 * (v - low) / (high - low)))] += 1;
  const most = Math.max(...bins);
  const label = `${title}: ${found.length} clips, from ${number(low, 3)} to ${number(high, 3)} ${unit}, median ${number(found[found.length >> 1], 3)}`;
  return element("figure", { title: text }, element("figcaption", {}, title + (unit ? `, ${unit}` : "")),
    element("svg:svg", { viewBox: "0 0 240 60", role: "img", "aria-label": label }, ...bins.map((n, i) =>
      element("svg:rect", { class: "bar", x: i * 10, width: 9, y: 60 - 58 * n / most, height: 58 * n / most }))),
    element("small", {}, element("span", {}, number(low, 2)), element("span", {}, `median ${number(found[found.length >> 1], 2)}`), element("span", {}, number(high, 2))));
}
function showHistograms() {
  const made = Object.keys(figures).map(histogram).filter(Boolean), same = made.filter((one) => typeof one === "string");
  byId("histograms").replaceChildren(...(made.length ? made.filter((one) => typeof one !== "string") : [element("p", {}, "There are no metrics because quality control has not run.")]));
  byId("constant").textContent = same.length ? "The same for every clip: " + same.join("; ") + "." : "";
}

// --- Which rows, in which order ----------------------------------------------------------------------------------
// Each takes what is wanted and gives a test of a row, so that a filter prepares once for all rows.
const searched = [];
const textOf = (row) => searched[row.index] ??= [row.clip_id, row.speaker, row.findings, ...reasonsOf(row), ...OWN.map((name) => row[name])].map((value) => String(value ?? "")).join("\n").toLowerCase();
const MATCH = {
  text: (wanted) => { const part = wanted.toLowerCase(); return (row) => textOf(row).includes(part); },
  review: (wanted) => (row) => wanted === "mine" ? Boolean(markOf(row)) : reviewOf(row) === wanted,
  quality: (wanted) => (row) => (qualityOf(row) || NONE) === wanted, status: (wanted) => (row) => row.status === wanted,
  reason: (wanted) => (row) => reasonsOf(row).includes(wanted), language: (wanted) => (row) => (row.language || NONE) === wanted,
  speaker: (wanted) => (row) => (row.speaker || NONE) === wanted,
  own: (wanted) => { const [name, value] = ownOf(wanted); return (row) => String(row[name] ?? NONE) === value; },
};
const ownOf = (wanted) => { try { const [name, value] = JSON.parse(wanted); return [name, value]; } catch { return ["", ""]; } };  // the address is anybody's
// What a filter says of the clips that it shows, for a person who reads or hears it.
const SAYS = {
  text: (wanted) => `with “${wanted}” in their id, speaker, findings or own columns`, review: (wanted) => REVIEWS[wanted]?.replace(/^\W+/, "") ?? wanted,
  quality: (wanted) => "quality control: " + (QUALITIES[wanted] || wanted), status: (wanted) => "status " + wanted, reason: phrase,
  language: (wanted) => wanted === NONE ? "without a language" : "in " + languageName(wanted), speaker: (wanted) => wanted === NONE ? "without a speaker" : "speaker " + wanted,
  own: (wanted) => ownOf(wanted).join(": "),
};
const QUALITIES = { fail: "failed", review: "needs a look", pass: "passed", approved: "approved by a person" };
// lip_correlation_low -> lip correlation is low
function phrase(code) { return String(code).replace(/_(high|low)$/, " is $1").replaceAll("_", " "); }
function languageName(code) { try { return `${new Intl.DisplayNames("en", { type: "language" }).of(code)} (${code})`; } catch { return code; } }
const clipsText = (count) => `${number(count)} clip${count === 1 ? "" : "s"}`;
const RANKS = ["fail", undefined, null, "review", "approved", "pass"];
const worst = (row) => row.status !== "done" ? -1 : RANKS.indexOf(qualityOf(row));
let shown = [];
const active = () => FILTERS.filter((name) => state[name]);
function select() {
  const tests = active().map((name) => MATCH[name](state[name]));
  shown = rows.filter((row) => tests.every((test) => test(row)));
  const name = state.sort.replace(/^-/, ""), sign = state.sort.startsWith("-") ? -1 : 1;
  if (!name) return shown.sort((a, b) => worst(a) - worst(b) || a.index - b.index);
  const rank = (row) => name === "qc_status" ? (row.qc_status ? RANKS.indexOf(qualityOf(row)) + 1 : null) : name === "review" ? REVIEWS[reviewOf(row)] : row[name];
  const absent = (value) => value === null || value === undefined || value === "";
  return shown.sort((a, b) => {
    const one = rank(a), other = rank(b);
    if (absent(one) || absent(other)) return absent(one) - absent(other) || a.index - b.index;
    return sign * (typeof one === "number" && typeof other === "number" ? one - other : compared(String(one), String(other))) || a.index - b.index;
  });
}

// --- The list: a table or pictures -------------------------------------------------------------------------------
const verdict = (row) => element("span", { class: `verdict v-${qualityOf(row) || ""}` }, SIGNS[qualityOf(row)] || "–");
const said = (row) => element("span", { class: `said s-${reviewOf(row)}` }, row.status === "done" ? REVIEWS[reviewOf(row)] : "–");
const opener = (row, ...content) => element("button", { type: "button", class: "open", onclick: () => open(row) }, ...content);
function showList(anew = true) {  // not anew: another page or view of the same clips
  if (anew) select();
  const pages = Math.max(1, Math.ceil(shown.length / PAGE)), grid = state.view === "grid";
  state.page = Math.min(state.page, pages - 1);
  byId("count").textContent = [`${number(shown.length)} of ${clipsText(rows.length)}`, active().map((name) => SAYS[name](state[name])).join("; ")].filter(Boolean).join(": ");
  byId("page").textContent = `page ${state.page + 1} of ${pages}`;
  byId("previous").disabled = state.page === 0;
  byId("next").disabled = state.page === pages - 1;
  const here = shown.slice(state.page * PAGE, (state.page + 1) * PAGE);
  byId("table").parentElement.hidden = grid;
  byId("grid").hidden = !grid;
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
  if (grid) byId("grid").replaceChildren(...here.map(card)); else showTable(here);
  for (const name of FILTERS) byId("f-" + name).value = state[name];
  showMarks();
}
function showTable(here) {
  byId("table").tHead.rows[0].replaceChildren(...COLUMNS.map(([name, title]) => {
    const order = state.sort === name ? "ascending" : state.sort === "-" + name ? "descending" : "none";
    return element("th", { scope: "col", "aria-sort": order }, element("button", { type: "button", "data-column": name, onclick: () => {
      state.sort = order === "ascending" ? "-" + name : name; state.page = 0; refresh();
      document.querySelector(`[data-column="${CSS.escape(name)}"]`).focus();
    } }, title + { ascending: " ▲", descending: " ▼", none: "" }[order]));
  }));
  byId("table").tBodies[0].replaceChildren(...here.map((row) =>
    element("tr", { "data-clip": row.clip_id }, ...COLUMNS.map(([name, title, digits]) => {
      let content = digits === undefined ? String(row[name] ?? "") : number(row[name], digits);
      if (name === "clip_id") content = opener(row, element("bdi", {}, row.clip_id));
      if (name === "qc_status") content = verdict(row);
      if (name === "review") content = said(row);
      return element("td", { "data-name": title, title: name === "findings" ? reasonsOf(row).join(", ") : null, class: digits === undefined ? ({ findings: "findings", timecode: "code-of-time" }[name] ?? null) : "number" }, content);
    }))));
}
function card(row) {
  return element("li", { "data-clip": row.clip_id }, opener(row, picture(row), element("bdi", {}, row.clip_id)), element("div", {}, verdict(row), " ", said(row)), element("small", {}, row.findings));
}
// A tile of the contact sheet: the frame in the middle of the clip.
function picture(row) {
  const detail = detailOf(row), made = element("div", { class: "thumb", "aria-hidden": "true" });  // the button that it is in has the name of the clip
  if (!detail || !detail.sheet) { made.textContent = row.status === "done" ? "no picture" : row.status; return made; }
  const tiles = detail.labels.length, middle = Math.max(0, detail.labels.findIndex((label) => label.startsWith("middle")));
  if (detail.tile) made.style.aspectRatio = detail.tile.join(" / ");  // of a full frame
  made.style.backgroundImage = `url("${sheetSource(row, detail)}")`;
  made.style.backgroundSize = `${100 * tiles}% 100%`;
  made.style.backgroundPosition = `${tiles > 1 ? 100 * middle / (tiles - 1) : 0}% 0`;
  return made;
}
function fillSelects() {
  const own = OWN.flatMap((name) => {
    const counts = countBy(rows.map((row) => String(row[name] ?? NONE)));
    return counts.size > 1 && counts.size <= 50 ? [...counts].sort((a, b) => compared(a[0], b[0])).map(([value, n]) => [JSON.stringify([name, value]), n]) : [];
  });
  const by = (keys) => [...countBy(keys)].sort((a, b) => compared(a[0], b[0]));
  const qualities = countBy(rows.map(qualityOf));
  const options = { review: Object.keys(REVIEWS).map((one) => [one, 0]), quality: [...VERDICTS, "approved"].map((one) => [one, qualities.get(one) || 0]),
    status: by(rows.map((row) => row.status)), reason: sorted(countBy(rows.flatMap(reasonsOf))),
    language: by(rows.map((row) => row.language || NONE)), speaker: by(rows.map((row) => row.speaker || NONE)), own };
  const text = { ...SAYS, language: (one) => one === NONE ? "no language" : languageName(one), speaker: (one) => one === NONE ? "no speaker" : one, quality: (one) => QUALITIES[one], status: (one) => one };
  for (const [name, found] of Object.entries(options))
    byId("f-" + name).replaceChildren(element("option", { value: "" }, "any"), ...found.map(([value, n]) => element("option", { value }, `${text[name](value)}: ${clipsText(n)}`)));
  byId("f-own").parentElement.hidden = !own.length;
}
function refresh(anew) { showList(anew); writeAddress(); }
function choose(name, value) { state[name] = value; state.page = 0; refresh(); byId("clips").scrollIntoView(); byId("clips").focus({ preventScroll: true }); }

