// --- Start -------------------------------------------------------------------------------------------------------
const dark = () => document.documentElement.dataset.theme === "dark";
function setTheme(theme) { document.documentElement.dataset.theme = theme; byId("theme").textContent = dark() ? "Light" : "Dark"; }
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
byId("theme").addEventListener("click", () => setTheme(dark() ? "light" : "dark"));
try { byId("autoplay").checked = localStorage.getItem("floatcast-autoplay") === "1"; } catch { /* it is off */ }
byId("autoplay").addEventListener("change", () => { try { localStorage.setItem("floatcast-autoplay", byId("autoplay").checked ? "1" : "0"); } catch { /* for this page only */ } });
for (const name of FILTERS) byId("f-" + name).addEventListener("input", (event) => { state[name] = event.target.value; state.page = 0; refresh(); });
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => { for (const name of FILTERS) state[name] = ""; state.page = 0; setTimeout(refresh); });
for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => { state.view = button.dataset.view; refresh(false); });
byId("previous").addEventListener("click", () => { state.page -= 1; refresh(false); });
byId("next").addEventListener("click", () => { state.page += 1; refresh(false); });
byId("charts").addEventListener("toggle", () => showHistograms(), { once: true });
byId("about").textContent = page.about;
function start() {
  readAddress(); showList();
  const row = state.clip && rows.find((found) => found.clip_id === state.clip);
  if (row) open(row); else if (byId("panel").open) byId("panel").close();
}
addEventListener("hashchange", start);  // a link to a clip, opened in a tab that has the page
showTotals(); fillSelects(); start();
if (SERVER) fetch("reviews", { headers: { "X-Floatcast-Token": SERVER } }).then((answer) => answer.json()).then((found) => {
  for (const one of found) marks[`${one.clip_id}/${one.take}`] = one;
  showList();
}).catch(() => showMarks("the server does not answer"));
// What the search looks through is made ready bit by bit while nobody waits, so that the first letter is as quick as the others.
const whenIdle = window.requestIdleCallback || ((work) => setTimeout(work, 20));
function makeReady(from) {
  rows.slice(from, from + 500).forEach(textOf);
  if (from + 500 < rows.length) whenIdle(() => makeReady(from + 500));
}
whenIdle(() => makeReady(0));
