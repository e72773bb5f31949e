// --- One clip ----------------------------------------------------------------------------------------------------
let current = null, openedBy = null;
const detailOf = (row) => { const found = byId("d" + row.index); return found ? JSON.parse(found.textContent) : null; };
function sheetSource(row, detail) {
  const kept = byId("s" + row.index);
  return kept ? "data:image/jpeg;base64," + kept.textContent.trim() : detail.sheet;
}
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const decode = (text) => [...text].map((letter) => letter === "." ? null : LETTERS.indexOf(letter) / 63);
const PAUSE_SECONDS = .5, PAUSE_BELOW = 30 / 60;  // as quality control counts pauses; the curve spans 60 dB
function pausesOf(speech, rate) {
  const loud = speech.filter((v) => v !== null).sort((a, b) => a - b), limit = (loud[Math.floor(.95 * loud.length)] || 0) - PAUSE_BELOW, found = [];
  let start = null;
  [...speech, 1].forEach((v, i) => {
    if (v !== null && v < limit) start ??= i;
    else { if (start !== null && (i - start) / rate >= PAUSE_SECONDS) found.push([start, i]); start = null; }
  });
  return found;
}
function plot(curves, seek) {
  const mouth = decode(curves.mouth), speech = decode(curves.speech), n = Math.max(2, mouth.length), seconds = n / curves.rate;
  const at = (i) => i / (n - 1) * 600, x = (i) => at(i).toFixed(1), y = (v) => (104 - 96 * v).toFixed(1);
  let line = "", gap = true;
  mouth.forEach((v, i) => { if (v !== null) line += `${gap ? "M" : "L"}${x(i)} ${y(v)}`; gap = v === null; });
  const area = `M0 104${speech.map((v, i) => `L${x(i)} ${y(v ?? 0)}`).join("")}L600 104Z`;
  const ticks = [0, .25, .5, .75, 1].map((share) => element("svg:text", { x: 600 * share, y: 120, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle" }, number(share * seconds, 1) + " s"));
  const pauses = pausesOf(speech, curves.rate).map(([first, last]) => element("svg:rect", { class: "pause", x: x(first), width: Math.max(1, at(last) - at(first)).toFixed(1), y: 4, height: 100 }));
  const seams = (curves.seams || []).map((time) => element("svg:line", { class: "seam", x1: 600 * time / seconds, x2: 600 * time / seconds, y1: 4, y2: 104 }));
  // Spans of emotions, and how far each is seen (emotion_span).
  const spans = (curves.emotions || []).map(([start, end, name, share]) => {
    const left = 600 * start / seconds, right = Math.min(600, 600 * end / seconds), said = share === null ? name : `${name} ${number(share, 2)}`;
    return element("svg:g", { class: "span" }, element("svg:rect", { x: left, width: Math.max(1, right - left), y: 4, height: 16 }), element("svg:text", { x: (left + right) / 2, y: 16, "text-anchor": "middle" }, said));
  });
  const place = element("svg:line", { class: "place", x1: 0, x2: 0, y1: 4, y2: 104 });
  const drawn = element("svg:svg", { viewBox: "0 0 600 124", role: "img", "aria-label": `Mouth opening and audio level over ${number(seconds, 1)} seconds, with ${pauses.length} pauses and ${seams.length} seams`,
    onclick: (event) => { const box = drawn.getBoundingClientRect(); seek(seconds * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))); } },
    ...pauses, element("svg:path", { class: "speech", d: area }), element("svg:path", { class: "mouth", d: line }), ...seams, ...spans, place, ...ticks);
  const legend = [["", "mouth opening (relative to its widest)"], ["s", "audio level (60 dB)"], ...(pauses.length ? [["p", "pause"]] : []), ...(seams.length ? [["m", "seam between windows"]] : []), ...(spans.length ? [["e", "emotion, and how far it is seen"]] : [])];
  const made = element("div", { class: "plot" }, drawn, element("div", { class: "legend" }, ...legend.map(([kind, text]) => element("span", {}, element("i", { class: kind }), text)), element("span", {}, "click to play from there")));
  made.follow = (time) => { for (const end of ["x1", "x2"]) place.setAttribute(end, 600 * time / seconds); };
  return made;
}
function facts(pairs) {
  return element("dl", { class: "facts" }, ...pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value, title]) =>
    element("div", { title }, element("dt", {}, name), element("dd", {}, element("bdi", {}, String(value))))));
}
function sheet(row, detail) {
  if (!detail || !detail.sheet) return element("p", {}, detail && detail.note || "No contact sheet.");
  const [width, height] = detail.tile || [160, 160];
  const image = element("img", { src: sheetSource(row, detail), loading: "lazy", alt: "Contact sheet: " + detail.labels.join(", ") });
  const labels = detail.labels.map((label) => element("li", {}, label));
  image.style.height = height + "px";
  for (const label of labels) label.style.width = width + "px";
  return element("div", { class: "sheet" }, image, element("ul", { class: "labels" }, ...labels));
}
// Where to look in a full frame, and what quality control found there.
function edge(row, detail) {
  const found = ["qc_seam_visibility", "qc_rim_motion", "qc_upscale"].filter((name) => typeof row[name] === "number");
  if (row.frame !== "full" || !found.length) return null;
  const drawn = detail && detail.labels.some((label) => label.startsWith("edge of the mask"));  // not by earlier versions
  return element("section", {}, drawn ? element("p", {}, "The mask is drawn with dashes: within the inner line is the animated square, beyond the outer one the source picture. Look between them for a seam, and for hair, neck and shoulders that jump.") : null,
    facts(found.map((name) => [name.slice(3).replaceAll("_", " "), `${number(row[name], 3)} ${figures[name][0]}`, figures[name][1]])));
}
// Browsers play MP4; of the files for editing, the contact sheet shows what is in them.
const plays = (source) => /\.mp4$/.test(source);
const film = (source, label) => !plays(source) ? element("p", {}, "Browsers cannot play this file: see its contact sheet, or open it in an editor.") : element("video", { controls: true, preload: "metadata", src: source, "aria-label": label });
// The source picture: the server of `floatcast review` has it; a page on disk can show one that is on the same disk.
function portrait(row) {
  const source = SERVER ? `portrait?row=${row.row}` : /^\//.test(row.image || "") ? "file://" + row.image.split("/").map(encodeURIComponent).join("/") : null;
  if (!source) return null;
  const made = element("figure", { class: "portrait" }, element("figcaption", {}, "Portrait"), element("img", { src: source, alt: "Portrait of " + row.clip_id, onerror: () => made.remove() }));
  return made;
}
// The numbered faces of an image with several; the yellow one speaks.
function faces(row, detail) {
  if (!detail || !/^[A-Za-z0-9+/=]+$/.test(detail.faces || "")) return null;
  return element("figure", { class: "portrait" }, element("figcaption", {}, `${row.faces_found || "Several"} faces; ${row.faces ? "the yellow ones are animated" : "the yellow one speaks"}`), element("img", { src: "data:image/jpeg;base64," + detail.faces, alt: "Numbered faces in the image of " + row.clip_id }));
}
// What each of several faces was given, and what was measured of it.
function dialogue(row) {
  if (row.status !== "done" || !row.faces) return [];
  const made = JSON.parse(row.faces_animated || "[]"), measured = JSON.parse(row.qc_faces || "[]"), said = (value) => typeof value === "object" ? JSON.stringify(value) : value;
  return JSON.parse(row.faces).flatMap((face, i) => [
    element("h3", {}, `faces[${i + 1}]: face ${face.face}, ${face.idle ? "listens" : "speaks"}`),
    facts([...Object.entries({ ...face, ...made[i] }).map(([name, value]) => [name.replaceAll("_", " "), said(value)]),
      ...Object.entries(measured[i] || {}).filter(([name, value]) => value !== null && figures[name]).map(([name, value]) => [name.slice(3).replaceAll("_", " "), `${number(value, 3)} ${figures[name][0]}`, figures[name][1]])])]);
}
function otherTakes(row) {
  const takes = (page.takes || {})[row.row] || [];
  if (!takes.length) return null;
  return element("section", {}, element("h3", {}, "Other takes"), element("div", { class: "takes" }, ...takes.map((take) =>
    element("figure", {}, film(take.video, `Take ${take.take} of ${row.clip_id}`), element("figcaption", {}, `take ${take.take}: ${SIGNS[take.qc_status] || "not measured"}${take.qc_reasons?.length ? " (" + take.qc_reasons.join(", ") + ")" : ""}`)))));
}
function fillPanel(row) {
  const detail = detailOf(row), place = shown.indexOf(row);
  byId("p-title").replaceChildren(element("bdi", {}, row.clip_id));
  byId("p-previous").disabled = place <= 0;
  byId("p-next").disabled = place < 0 || place === shown.length - 1;
  const messages = messagesOf(row), reasons = reasonsOf(row);
  const body = [element("p", {}, verdict(row), ` · ${row.status}`, row.takes > 1 ? ` · take ${row.take} of ${row.takes}` : "")];
  if (messages.length) body.push(element("ul", {}, ...messages.map((text, i) => element("li", {}, text, row.status === "done" && reasons[i] ? element("small", { class: "code" }, " " + reasons[i]) : null))));
  const noticed = (row.input_messages || []).filter((text) => !messages.includes(text));
  if (noticed.length) body.push(element("h3", {}, "Noticed about the inputs"), element("ul", {}, ...noticed.map((text) => element("li", {}, text))));
  if (row.status === "done") {
    const video = film(row.video, "Video of " + row.clip_id);
    const curve = detail ? plot(detail.curves, (time) => { if (plays(row.video)) { video.currentTime = time; video.play().catch(() => {}); } }) : null;
    if (curve) video.addEventListener("timeupdate", () => curve.follow(video.currentTime));
    if (byId("autoplay").checked) video.autoplay = true;
    if (row.frame === "full" && row.width && row.height) video.style.aspectRatio = `${row.width} / ${row.height}`;
    body.push(element("div", { class: "media" },
      element("div", {}, video, element("p", {}, element("a", { href: row.video, download: true }, "the file")), portrait(row), faces(row, detail)),
      element("div", {}, reviewForm(row), curve ? element("h3", {}, "Mouth and speech") : null, curve)), otherTakes(row));
    body.push(element("h3", {}, "Contact sheet"), sheet(row, detail), edge(row, detail));
  }
  body.push(...dialogue(row));
  const own = OWN.map((name) => [name, row[name]]);
  if (own.length) body.push(element("h3", {}, "Columns of the manifest"), facts(own));
  const measured = Object.keys(figures).filter((name) => typeof row[name] === "number");
  if (measured.length) body.push(element("h3", {}, "Metrics"), facts(measured.map((name) => [name.slice(3).replaceAll("_", " "), `${number(row[name], 3)} ${figures[name][0]}`, figures[name][1]])));
  body.push(element("h3", {}, "Inputs and settings"), facts(columns.filter((name) => !/^(qc|input)_/.test(name) && !OWN.includes(name) && !["clip_id", "status", "error_code", "error_message", "video", "faces", "faces_animated"].includes(name)).map((name) => [name.replaceAll("_", " "), typeof row[name] === "number" ? number(row[name], 3) : row[name]])));
  byId("p-body").replaceChildren(...body.filter(Boolean));
}
function open(row) {
  current = row; state.clip = row.clip_id;
  fillPanel(row);
  if (!byId("panel").open) { openedBy = document.activeElement; byId("panel").showModal(); byId("p-close").focus(); }
  byId("panel").scrollTop = 0; writeAddress();
}
function step(by) { const row = shown[shown.indexOf(current) + by]; if (row) open(row); return Boolean(row); }
byId("panel").addEventListener("close", () => {
  const clip = state.clip; current = null; state.clip = null; byId("p-body").replaceChildren();
  const row = shown.findIndex((found) => found.clip_id === clip);
  if (row >= 0) state.page = Math.floor(row / PAGE);
  refresh();
  const again = [...document.querySelectorAll("[data-clip]")].find((place) => place.dataset.clip === clip);
  (again ? again.querySelector(".open") : openedBy)?.focus();
});
byId("p-close").addEventListener("click", () => byId("panel").close());
byId("p-previous").addEventListener("click", () => step(-1));
byId("p-next").addEventListener("click", () => step(1));
document.addEventListener("keydown", (event) => {  // of the page: a button that is disabled in use loses the focus
  if (!byId("panel").open || event.ctrlKey || event.metaKey || event.altKey || /^(TEXTAREA|INPUT)$/.test(event.target.tagName)) return;
  const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key], video = document.querySelector(".media video");
  const decide = { a: "approved", r: "retake", u: null }[event.key];
  if (by && event.target.tagName !== "VIDEO") { event.preventDefault(); step(by); }
  else if (event.key === " " && video && event.target.tagName !== "BUTTON") { event.preventDefault(); if (video.paused) video.play().catch(() => {}); else video.pause(); }
  else if (decide !== undefined && current?.status === "done") {
    event.preventDefault();
    mark(current, decide, byId("comment").value);
    if (decide === "approved" && step(1)) return;
    fillPanel(current);
    if (decide === "retake") byId("comment").focus();
  }
});

