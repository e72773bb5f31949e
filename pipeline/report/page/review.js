// --- Review ------------------------------------------------------------------------------------------------------
// `floatcast review` puts a token into the page: reviews then go to its server, which keeps review.csv.
const SERVER = document.querySelector('meta[name="floatcast-review"]')?.content;
const KEY = "floatcast-review:" + page.output;
let marks = {};
if (!SERVER) try { marks = JSON.parse(localStorage.getItem(KEY) || "{}"); } catch { /* without storage the marks live as long as the page */ }
const keyOf = (row) => `${row.clip_id}/${row.take || 1}`;
const markOf = (row) => ((mark) => !mark?.fingerprint || !row.fingerprint || mark.fingerprint === row.fingerprint ? mark : undefined)(marks[keyOf(row)]);  // not that of an earlier version
const reviewOf = (row) => markOf(row)?.verdict || row.review || "unreviewed";
let waiting = Promise.resolve();
function keep(changed) {
  if (!SERVER) { try { localStorage.setItem(KEY, JSON.stringify(marks)); } catch { /* as above */ } return; }
  waiting = waiting.then(async () => {
    try {
      const answer = await fetch("reviews", { method: "POST", headers: { "Content-Type": "application/json", "X-Floatcast-Token": SERVER }, body: JSON.stringify(changed) });
      if (!answer.ok) throw new Error(await answer.text());
      showMarks("saved in review.csv");
    } catch (error) { showMarks(`NOT SAVED: ${error.message || "the server does not answer"}. Is floatcast review still running?`); }
  });
}
function mark(row, verdict, comment) {
  markAll([row], verdict, comment);
}
function markAll(chosen, verdict, comment = "") {
  const changed = chosen.map((row) => ({ clip_id: row.clip_id, take: row.take || 1, verdict, comment, fingerprint: row.fingerprint || "" }));
  chosen.forEach((row, i) => { if (verdict) marks[keyOf(row)] = changed[i]; else { delete marks[keyOf(row)]; row.review = null; } });
  keep(changed);
  showMarks();
}
const undecided = () => shown.filter((row) => row.status === "done" && reviewOf(row) === "unreviewed");
function showMarks(news = "") {
  const n = Object.keys(marks).length, counts = countBy(rows.filter((row) => row.status === "done").map(reviewOf)), open = undecided().length;
  const progress = ["approved", "retake", "unreviewed"].map((name) => `${number(counts.get(name) || 0)} ${REVIEWS[name].replace(/^\W+/, "")}`).join(", ");
  for (const option of byId("f-review").options)
    if (option.value) option.textContent = `${SAYS.review(option.value)}: ${clipsText(option.value === "mine" ? n : counts.get(option.value) || 0)}`;
  byId("download").hidden = Boolean(SERVER);
  byId("download").disabled = !n;
  const next = SERVER ? "" : n ? `; ${n} clip${n > 1 ? "s" : ""} marked here: put the file next to this report and run the same job again` : "; open a clip to approve it or to ask for another take";
  byId("marked").textContent = `${progress}${next}${news ? "; " + news : ""}`;
  byId("batch").hidden = !open;
  byId("batch").textContent = `Approve the ${number(open)} shown that are not reviewed`;
}
byId("batch").addEventListener("click", () => {
  const chosen = undecided();
  if (confirm(`Approve ${chosen.length} clips that nobody has reviewed yet?`)) { markAll(chosen, "approved"); refresh(); }
});
function reviewForm(row) {
  const given = markOf(row) || { verdict: row.review, comment: row.review_comment || "" };
  const comment = element("textarea", { id: "comment", onchange: () => { if (markOf(row)) mark(row, markOf(row).verdict, comment.value); } });
  comment.value = given.comment;
  const buttons = [["approved", "Approve (a)"], ["retake", "Ask for another take (r)"]].map(([word, text]) =>
    element("button", { type: "button", "data-verdict": word, "aria-pressed": String(given.verdict === word), onclick: () => {
      mark(row, reviewOf(row) === word ? null : word, comment.value);
      for (const button of buttons) button.setAttribute("aria-pressed", String(reviewOf(row) === button.dataset.verdict));
    } }, text));
  return element("section", {}, element("h3", {}, "Your review"), element("div", { class: "pages" }, ...buttons), element("label", { for: "comment" }, "Comment"), comment,
    element("p", { class: "keys" }, "Keys: a approve and go on, r another take, u undo, space play, arrows other clips"));
}
function reviewCsv() {
  // A spreadsheet runs what begins like a formula: an apostrophe before it stops that (pipeline.common.csv_cells reads it).
  const quoted = (value) => `"${String(value).replace(/^['=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/, "'$&").replaceAll('"', '""')}"`;
  const old = rows.filter((row) => row.review && !markOf(row)).map((row) => ({ clip_id: row.clip_id, take: row.take || 1, verdict: row.review, comment: row.review_comment || "", fingerprint: row.fingerprint || "" }));
  return ["clip_id,take,verdict,comment,fingerprint", ...[...old, ...Object.values(marks)].map((m) => [m.clip_id, m.take, m.verdict, m.comment, m.fingerprint || ""].map(quoted).join(","))].join("\r\n") + "\r\n";
}
byId("download").addEventListener("click", () => {
  const link = element("a", { href: URL.createObjectURL(new Blob([reviewCsv()], { type: "text/csv" })), download: "review.csv" });
  link.click(); URL.revokeObjectURL(link.href);
});

