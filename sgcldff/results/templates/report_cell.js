"use strict";
// One cell: its figures beside the map, and its link, #cell-ID.

const chosen = L.layerGroup().addTo(map);
const linkTo = (cell) => `#cell-${encodeURIComponent(cell.id)}`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;
let current = null;

function mark() {
  chosen.clearLayers();
  if (!current) return;
  const radius = 5 + Math.max(6, content.ring * 2 ** map.getZoom());
  for (const [color, weight] of [["#111", 6], ["#fff", 3]]) {
    L.circleMarker(place([current.y, current.x]), { radius, color, weight, fill: false, interactive: false }).addTo(chosen);
  }
}

function figures(cell) {
  const cytoplasm = cell.area - cell.nucleus;
  const ratio = cell.nucleus > 0 && cytoplasm > 0 ? (cell.nucleus / cytoplasm).toFixed(2) : "unknown";
  const known = [
    ["Confidence", percent(cell.confidence)],
    ["Area", `${cell.area.toFixed(0)} µm²`],
    ["Nucleus", `${cell.nucleus.toFixed(0)} µm²`],
    ["N:C ratio", ratio],
    ["Position", `x ${(cell.x * content.perPixel).toFixed(0)}, y ${(cell.y * content.perPixel).toFixed(0)} px`],
  ];
  if (cell.typicality !== undefined) known.push(["Typicality", cell.typicality.toFixed(3)]);
  if (cell.onCell !== undefined) known.push(["Evidence on the cell", cell.onCell.toFixed(2)]);
  if (cell.smear) known.push(["Part of the smear", cell.smear.replaceAll("_", " ")]);
  if (cell.atEdge) known.push(["Cut", "by the slide’s border"]);
  known.push(["Cell", cell.id]);
  return known;
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function bar(share) {
  const made = element("td", "");
  made.append(element("span", ""));
  made.firstChild.style.width = `${100 * share}%`;
  return made;
}

function describe(cell) {
  const { label, colour } = content.types[cell.type];
  part("cell-name").textContent = cell.label ?? label;
  part("cell-swatch").style.background = colour;
  part("figures").replaceChildren(...figures(cell).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  const ranked = (cell.probabilities ?? []).map((share, index) => [share, content.classes[index]]).sort((a, b) => b[0] - a[0]);
  part("probabilities").tBodies[0].replaceChildren(...ranked.map(([share, name]) => {
    const row = document.createElement("tr");
    const head = element("th", name);
    head.scope = "row";
    row.append(head, element("td", percent(share)), bar(share));
    return row;
  }));
  part("probabilities").hidden = ranked.length === 0;
  part("undetailed").hidden = ranked.length > 0;
  part("link").href = linkTo(cell);
  part("copied").textContent = "";
  part("cell").hidden = false;
}

function select(cell) {
  current = cell;
  mark();
  describe(cell);
  history.replaceState(null, "", linkTo(cell));
}

function jump(cell) {
  select(cell);
  map.invalidateSize();
  map.setView(place([cell.y, cell.x]), Math.max(map.getZoom(), closest - 2), { animate: false });
  part("look").scrollIntoView({ block: "nearest" });
}

function linked() {
  const cell = linkedCell(location.hash);
  if (cell) jump(cell);
}

function step(by) {
  const at = passing.indexOf(current);
  const next = passing.at((at + by) % passing.length);
  if (next) jump(next);
}

function close() {
  current = null;
  mark();
  part("cell").hidden = true;
  history.replaceState(null, "", "#overview");
  map.invalidateSize();
  part("map").focus();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#cell-']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  linked();
  part("cell-title").focus({ preventScroll: true });
});
part("previous").addEventListener("click", () => step(-1));
part("next").addEventListener("click", () => step(1));
part("close").addEventListener("click", close);
part("copy").hidden = !navigator.clipboard;
part("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(location.href);
  part("copied").textContent = "Copied.";
});
window.addEventListener("hashchange", linked);
map.on("zoomend", mark);
linked();
