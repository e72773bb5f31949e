"use strict";
// All values come from manifests of other teams: they reach the page through textContent and attributes alone.
const { summary, columns, rows: values, figures, page } = JSON.parse(document.getElementById("data").textContent);
const rows = values.map((row, index) => Object.assign(Object.fromEntries(columns.map((name, i) => [name, row[i]])), { index }));
const byId = (id) => document.getElementById(id);
const PAGE = 50, VERDICTS = ["fail", "review", "pass"], NONE = "(none)";
const SIGNS = { pass: "✓ pass", review: "? review", fail: "✕ fail" };
const COLUMNS = [
  ["clip_id", "Clip"], ["qc_status", "Quality"], ["status", "Status"], ["reasons", "Reasons"], ["language", "Language"],
  ["speaker", "Speaker"], ["duration", "Seconds", 1], ["takes", "Takes", 0], ["qc_lip_correlation", "Lips", 2], ["qc_loudness_lufs", "LUFS", 1],
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
const countBy = (keys) => keys.reduce((found, key) => found.set(key, (found.get(key) || 0) + 1), new Map());
const sorted = (counts) => [...counts].sort((a, b) => b[1] - a[1] || String(a[0]).localeCompare(String(b[0])));
for (const row of rows) row.reasons = reasonsOf(row).join(", ");

// --- State: filters, order, page and open clip, all of it in the address ---------------------------------------
const FILTERS = ["text", "quality", "status", "reason", "language", "speaker"];
let state = {};
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = { sort: given.get("sort") || "", page: Math.max(0, Number(given.get("page")) || 0), clip: given.get("clip") };
  for (const name of FILTERS) state[name] = given.get(name) || "";
}
function writeAddress() {
  const given = new URLSearchParams();
  for (const name of [...FILTERS, "sort", "clip"]) if (state[name]) given.set(name, state[name]);
  if (state.page) given.set("page", state.page);
  try { history.replaceState(null, "", "#" + given); } catch { /* some viewers forbid it */ }
}

// --- Totals ------------------------------------------------------------------------------------------------------
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
  const statuses = whole ? whole.statuses : countBy(rows.map((row) => row.status)), verdicts = whole ? whole.verdicts : countBy(rows.map((row) => row.qc_status).filter(Boolean));
  const hours = (summary.render_workers || 0) * (summary.rendering_seconds || 0) / 3600, gpus = summary.gpus_per_worker || 0;
  const tiles = [["clips", number(whole ? page.whole.clips : rows.length)], ...["done", "failed", "rejected", "quarantined"].filter((s) => s === "done" || statuses.get(s)).map((s) => [s, number(statuses.get(s) || 0)]),
    ...VERDICTS.map((v) => ["quality: " + v, number(verdicts.get(v) || 0)]),
    ["total video, s", number(whole ? page.whole.seconds : rows.reduce((sum, row) => sum + (row.duration || 0), 0), 0)],
    [gpus ? "GPU-hours of this run" : "worker-hours of this run (no GPU)", number(hours * (gpus || 1), hours < 1 ? 3 : 1)],
    ["frames per second in this run", summary.rendering_seconds ? number(summary.frames / summary.rendering_seconds, 1) : "–"],
    ["retakes in this run", number(summary.retakes || 0)],
    ["render workers idle", typeof summary.render_idle_share === "number" ? number(100 * summary.render_idle_share, 0) + " %" : "–"]];
  byId("totals").append(...tiles.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const bars = (list, counts) => {
    const found = sorted(counts).slice(0, 12), most = Math.max(1, ...found.map(([, n]) => n));
    list.append(...(found.length ? found.map(([code, n]) => {
      const bar = element("i");
      bar.style.width = 100 * n / most + "%";
      return element("li", {}, element("button", { type: "button", title: "Show these clips", onclick: () => choose("reason", code) }, element("span", {}, code), bar, element("b", {}, number(n))));
    }) : [element("li", {}, "nothing")]));
  };
  bars(byId("errors"), whole ? whole.errors : countBy(rows.filter((row) => row.status !== "done").map((row) => row.error_code)));
  bars(byId("reasons"), whole ? whole.reasons : countBy(rows.filter((row) => row.status === "done").flatMap(reasonsOf)));
}

function histogram(name) {
  const found = rows.map((row) => row[name]).filter((v) => typeof v === "number").sort((a, b) => a - b);
  if (!found.length) return null;
  const low = found[0], high = found[found.length - 1], bins = new Array(24).fill(0);
  for (const v of found) bins[Math.min(23, Math.floor(high > low ? 24 * (v - low) / (high - low) : 12))] += 1;
  const most = Math.max(...bins), [unit, text] = figures[name] || ["", ""], title = name.slice(3).replaceAll("_", " ");
  const label = `${title}: ${found.length} clips, from ${number(low, 3)} to ${number(high, 3)} ${unit}, median ${number(found[found.length >> 1], 3)}`;
  return element("figure", { title: text }, element("figcaption", {}, title + (unit ? `, ${unit}` : "")),
    element("svg:svg", { viewBox: "0 0 240 60", role: "img", "aria-label": label }, ...bins.map((n, i) =>
      element("svg:rect", { class: "bar", x: i * 10, width: 9, y: 60 - 58 * n / most, height: 58 * n / most }))),
    element("small", {}, element("span", {}, number(low, 2)), element("span", {}, `median ${number(found[found.length >> 1], 2)}`), element("span", {}, number(high, 2))));
}
function showHistograms(all) {
  const made = Object.keys(figures).map(histogram).filter(Boolean);
  byId("histograms").replaceChildren(...(made.length ? made.slice(0, all ? made.length : 12) : [element("p", {}, "There are no metrics because quality control has not run.")]));
  byId("more").hidden = all || made.length <= 12;
}

// --- Table -------------------------------------------------------------------------------------------------------
const MATCH = {
  text: (row, wanted) => row.clip_id.toLowerCase().includes(wanted.toLowerCase()),
  quality: (row, wanted) => (row.qc_status || NONE) === wanted, status: (row, wanted) => row.status === wanted,
  reason: (row, wanted) => reasonsOf(row).includes(wanted), language: (row, wanted) => (row.language || NONE) === wanted,
  speaker: (row, wanted) => (row.speaker || NONE) === wanted,
};
let shown = [];
function select() {
  shown = rows.filter((row) => FILTERS.every((name) => !state[name] || MATCH[name](row, state[name])));
  if (!state.sort) return;
  const name = state.sort.replace(/^-/, ""), sign = state.sort.startsWith("-") ? -1 : 1;
  const rank = (row) => name === "qc_status" ? VERDICTS.indexOf(row.qc_status) + 1 || 9 : row[name];
  shown.sort((a, b) => {
    const one = rank(a), other = rank(b);
    if (one === null || one === undefined || one === "") return other === null || other === undefined || other === "" ? a.index - b.index : 1;
    if (other === null || other === undefined || other === "") return -1;
    return sign * (typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other))) || a.index - b.index;
  });
}
const verdict = (row) => element("span", { class: `verdict ${row.qc_status === "review" ? "v-review" : row.qc_status || ""}` }, SIGNS[row.qc_status] || "–");
function showTable() {
  select();
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  state.page = Math.min(state.page, pages - 1);
  byId("count").textContent = `${number(shown.length)} of ${number(rows.length)} clips`;
  byId("page").textContent = `page ${state.page + 1} of ${pages}`;
  byId("previous").disabled = state.page === 0;
  byId("next").disabled = state.page === pages - 1;
  byId("table").tHead.rows[0].replaceChildren(...COLUMNS.map(([name, title]) => {
    const order = state.sort === name ? "ascending" : state.sort === "-" + name ? "descending" : "none";
    return element("th", { scope: "col", "aria-sort": order }, element("button", { type: "button", "data-column": name, onclick: () => {
      state.sort = order === "ascending" ? "-" + name : name; state.page = 0; refresh();
      document.querySelector(`[data-column="${name}"]`).focus();
    } }, title + { ascending: " ▲", descending: " ▼", none: "" }[order]));
  }));
  byId("table").tBodies[0].replaceChildren(...shown.slice(state.page * PAGE, (state.page + 1) * PAGE).map((row) =>
    element("tr", { "data-clip": row.clip_id }, ...COLUMNS.map(([name, title, digits]) => {
      let content = digits === undefined ? row[name] ?? "" : number(row[name], digits);
      if (name === "clip_id") content = element("button", { type: "button", class: "open", onclick: () => open(row) }, element("bdi", {}, row.clip_id));
      if (name === "qc_status") content = verdict(row);
      return element("td", { "data-name": title, class: digits === undefined ? (name === "status" ? "verdict-status" : null) : "number" }, content);
    }))));
  for (const name of FILTERS) byId("f-" + name).value = state[name];
}
function fillSelects() {
  const options = { quality: VERDICTS, status: [...countBy(rows.map((r) => r.status)).keys()].sort(), reason: sorted(countBy(rows.flatMap(reasonsOf))).map(([code]) => code),
    language: [...new Set(rows.map((r) => r.language || NONE))].sort(), speaker: [...new Set(rows.map((r) => r.speaker || NONE))].sort() };
  for (const [name, found] of Object.entries(options))
    byId("f-" + name).replaceChildren(element("option", { value: "" }, "all"), ...found.map((value) => element("option", { value }, value)));
}
function refresh() { showTable(); writeAddress(); }
function choose(name, value) { state[name] = value; state.page = 0; refresh(); byId("clips").scrollIntoView(); byId("clips").focus({ preventScroll: true }); }

// --- One clip ----------------------------------------------------------------------------------------------------
let current = null, opener = null;
const detailOf = (row) => { const found = byId("d" + row.index); return found ? JSON.parse(found.textContent) : null; };
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const decode = (text) => [...text].map((letter) => letter === "." ? null : LETTERS.indexOf(letter) / 63);
function plot(curves) {
  const mouth = decode(curves.mouth), speech = decode(curves.speech), n = Math.max(2, mouth.length), seconds = n / curves.rate;
  const x = (i) => (i / (n - 1) * 600).toFixed(1), y = (v) => (104 - 96 * v).toFixed(1);
  let line = "", gap = true;
  mouth.forEach((v, i) => { if (v !== null) line += `${gap ? "M" : "L"}${x(i)} ${y(v)}`; gap = v === null; });
  const area = `M0 104${speech.map((v, i) => `L${x(i)} ${y(v ?? 0)}`).join("")}L600 104Z`;
  const ticks = [0, .25, .5, .75, 1].map((share) => element("svg:text", { x: 600 * share, y: 120, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle" }, number(share * seconds, 1) + " s"));
  return element("div", { class: "plot" }, element("svg:svg", { viewBox: "0 0 600 124", role: "img", "aria-label": `Mouth opening and audio level over ${number(seconds, 1)} seconds` },
    element("svg:path", { class: "speech", d: area }), element("svg:path", { class: "mouth", d: line }), ...ticks),
    element("div", { class: "legend" }, element("span", {}, element("i"), "mouth opening (relative to its widest)"), element("span", {}, element("i", { class: "s" }), "audio level (60 dB)")));
}
function facts(pairs) {
  return element("dl", { class: "facts" }, ...pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value, title]) =>
    element("div", { title }, element("dt", {}, name), element("dd", {}, element("bdi", {}, String(value))))));
}
function sheet(row, detail) {
  if (!detail || !detail.sheet) return element("p", {}, detail && detail.note || "No contact sheet.");
  const kept = byId("s" + row.index);
  const source = kept ? "data:image/jpeg;base64," + kept.textContent.trim() : detail.sheet;
  return element("div", { class: "sheet" }, element("img", { src: source, loading: "lazy", alt: "Contact sheet: " + detail.labels.join(", ") }),
    element("ul", { class: "labels" }, ...detail.labels.map((label) => element("li", {}, label))));
}
function fillPanel(row) {
  const detail = detailOf(row), place = shown.indexOf(row);
  byId("p-title").replaceChildren(element("bdi", {}, row.clip_id));
  byId("p-previous").disabled = place <= 0;
  byId("p-next").disabled = place < 0 || place === shown.length - 1;
  const messages = row.status === "done" ? row.qc_messages || [] : [`${row.error_code}: ${row.error_message}`];
  const body = [element("p", {}, verdict(row), ` · ${row.status}`, row.takes > 1 ? ` · take ${row.take} of ${row.takes}` : "")];
  if (messages.length) body.push(element("ul", {}, ...messages.map((text) => element("li", {}, text))));
  const noticed = (row.input_messages || []).filter((text) => !messages.includes(text));
  if (noticed.length) body.push(element("h3", {}, "Noticed about the inputs"), element("ul", {}, ...noticed.map((text) => element("li", {}, text))));
  if (row.status === "done") {
    body.push(element("div", { class: "media" },
      element("div", {}, element("video", { controls: true, preload: "none", src: row.video, "aria-label": "Video of " + row.clip_id }), element("p", {}, element("a", { href: row.video, download: true }, "the file"))),
      element("div", {}, detail ? element("h3", {}, "Mouth and speech") : null, detail ? plot(detail.curves) : null, reviewForm(row))));
    body.push(element("h3", {}, "Contact sheet"), sheet(row, detail));
  }
  const measured = Object.keys(figures).filter((name) => typeof row[name] === "number");
  if (measured.length) body.push(element("h3", {}, "Metrics"), facts(measured.map((name) => [name.slice(3).replaceAll("_", " "), `${number(row[name], 3)} ${figures[name][0]}`, figures[name][1]])));
  body.push(element("h3", {}, "Inputs and settings"), facts(columns.filter((name) => !/^(qc|input)_/.test(name) && !["clip_id", "status", "error_code", "error_message", "video", "reasons"].includes(name)).map((name) => [name.replaceAll("_", " "), typeof row[name] === "number" ? number(row[name], 3) : row[name]])));
  byId("p-body").replaceChildren(...body);
}
function open(row) {
  current = row; state.clip = row.clip_id;
  fillPanel(row);
  if (!byId("panel").open) { opener = document.activeElement; byId("panel").showModal(); byId("p-close").focus(); }
  byId("panel").scrollTop = 0; writeAddress();
}
function step(by) { const row = shown[shown.indexOf(current) + by]; if (row) open(row); }
byId("panel").addEventListener("close", () => {
  const clip = state.clip; current = null; state.clip = null; byId("p-body").replaceChildren();
  const row = shown.findIndex((found) => found.clip_id === clip);
  if (row >= 0) state.page = Math.floor(row / PAGE);
  refresh();
  const again = [...document.querySelectorAll("tr[data-clip]")].find((tr) => tr.dataset.clip === clip);
  (again ? again.querySelector(".open") : opener)?.focus();
});
byId("p-close").addEventListener("click", () => byId("panel").close());
byId("p-previous").addEventListener("click", () => step(-1));
byId("p-next").addEventListener("click", () => step(1));
document.addEventListener("keydown", (event) => {  // of the page: a button that is disabled in use loses the focus
  if (!byId("panel").open || event.ctrlKey || event.metaKey || event.altKey || /^(TEXTAREA|VIDEO|INPUT)$/.test(event.target.tagName)) return;
  const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
  if (by) { event.preventDefault(); step(by); }
});

// --- Review ------------------------------------------------------------------------------------------------------
const KEY = "floatcast-review:" + page.output;
let marks = {};
try { marks = JSON.parse(localStorage.getItem(KEY) || "{}"); } catch { /* without storage the marks live as long as the page */ }
const markOf = (row) => marks[`${row.clip_id}/${row.take || 1}`];
function mark(row, verdict, comment) {
  const key = `${row.clip_id}/${row.take || 1}`;
  if (verdict) marks[key] = { clip_id: row.clip_id, take: row.take || 1, verdict, comment }; else delete marks[key];
  try { localStorage.setItem(KEY, JSON.stringify(marks)); } catch { /* as above */ }
  showMarks();
}
function showMarks() {
  const n = Object.keys(marks).length;
  byId("download").disabled = !n;
  byId("marked").textContent = n ? `${n} clip${n > 1 ? "s" : ""} marked here; put the file next to this report and run the same job again` : "Open a clip to approve it or to ask for another take.";
}
function reviewForm(row) {
  const said = markOf(row) || { verdict: row.review, comment: row.review_comment || "" };
  const comment = element("textarea", { id: "comment", oninput: () => { if (markOf(row)) mark(row, markOf(row).verdict, comment.value); } });
  comment.value = said.comment;
  const buttons = [["approved", "Approve"], ["retake", "Ask for another take"]].map(([word, text]) =>
    element("button", { type: "button", "data-verdict": word, "aria-pressed": String(said.verdict === word), onclick: () => {
      mark(row, markOf(row)?.verdict === word ? null : word, comment.value);
      for (const button of buttons) button.setAttribute("aria-pressed", String(markOf(row)?.verdict === button.dataset.verdict));
    } }, text));
  return element("section", {}, element("h3", {}, "Your review"), element("div", { class: "pages" }, ...buttons), element("label", { for: "comment" }, "Comment"), comment);
}
function reviewCsv() {
  // A spreadsheet runs what begins like a formula: an apostrophe before it stops that (pipeline.common.csv_cells reads it).
  const quoted = (value) => `"${String(value).replace(/^['=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/, "'$&").replaceAll('"', '""')}"`;
  const old = rows.filter((row) => row.review && !markOf(row)).map((row) => ({ clip_id: row.clip_id, take: row.take || 1, verdict: row.review, comment: row.review_comment || "" }));
  return ["clip_id,take,verdict,comment", ...[...old, ...Object.values(marks)].map((m) => [m.clip_id, m.take, m.verdict, m.comment].map(quoted).join(","))].join("\r\n") + "\r\n";
}
byId("download").addEventListener("click", () => {
  const link = element("a", { href: URL.createObjectURL(new Blob([reviewCsv()], { type: "text/csv" })), download: "review.csv" });
  link.click(); URL.revokeObjectURL(link.href);
});

// --- Start -------------------------------------------------------------------------------------------------------
const dark = () => document.documentElement.dataset.theme === "dark";
function setTheme(theme) { document.documentElement.dataset.theme = theme; byId("theme").textContent = dark() ? "Light" : "Dark"; }
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
byId("theme").addEventListener("click", () => setTheme(dark() ? "light" : "dark"));
for (const name of FILTERS) byId("f-" + name).addEventListener("input", (event) => { state[name] = event.target.value; state.page = 0; refresh(); });
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => { for (const name of FILTERS) state[name] = ""; state.page = 0; setTimeout(refresh); });
byId("previous").addEventListener("click", () => { state.page -= 1; refresh(); });
byId("next").addEventListener("click", () => { state.page += 1; refresh(); });
byId("more").addEventListener("click", () => showHistograms(true));
byId("about").textContent = page.about;
readAddress(); fillSelects(); showTotals(); showHistograms(false); showTable(); showMarks();
if (state.clip) { const row = rows.find((found) => found.clip_id === state.clip); if (row) open(row); }
