"use strict";
// Cells on the map, rings from afar and outlines from near, and which of them are shown there and in the gallery.

const CLOSE_PX = 18;
const MANY = 3000;
const cells = content.cells;
const byId = new Map(cells.map((cell) => [cell.id, cell]));
const gallery = [...document.querySelectorAll("#gallery .group")].map((group) => [
  group,
  [...group.querySelectorAll("figure")].map((figure) => [figure, linkedCell(figure.querySelector("a").hash)]),
]);
const inks = L.canvas({ padding: 0.3, tolerance: 3 });
const rings = L.featureGroup().addTo(map);
const outlines = L.featureGroup().addTo(map);
const nuclei = L.featureGroup().addTo(map);
for (const group of [rings, outlines, nuclei]) group.on("click", (event) => select(event.layer.cell));

function linkedCell(hash) {
  const name = /^#cell-(.+)/.exec(hash)?.[1];
  try {
    return byId.get(decodeURIComponent(name ?? ""));
  } catch {
    return undefined;
  }
}

function drawn(cell, group, make) {
  const layer = make();
  layer.cell = cell;
  group.addLayer(layer);
}

function polygon(cell, borders, style) {
  return L.polygon(borders.map((border) => [border.map(place)]), { renderer: inks, fillOpacity: 0, ...style });
}

function passes(cell) {
  const percent = 100 * cell.confidence;
  return part(`key${cell.type + 1}`).checked && percent >= +part("least").value && percent <= +part("most").value;
}

let passing = cells;

function draw() {
  const radius = content.ring * 2 ** map.getZoom();
  const close = radius > CLOSE_PX;
  const view = map.getBounds().pad(0.5);
  const seen = passing.filter((cell) => view.contains(place([cell.y, cell.x])));
  const least = seen.length > MANY ? 2 : 6;
  for (const group of [rings, outlines, nuclei]) group.clearLayers();
  for (const cell of seen) {
    const color = content.types[cell.type].colour;
    const outlined = close && cell.outlines && part("outlines").checked;
    if (outlined) drawn(cell, outlines, () => polygon(cell, cell.outlines, { color, weight: 2.5 }));
    else drawn(cell, rings, () => L.circleMarker(place([cell.y, cell.x]), { renderer: inks, radius: Math.max(least, radius), color, weight: seen.length > MANY ? 1 : 2.5, fillOpacity: 0 }));
    if (close && cell.nuclei && part("nuclei").checked) {
      drawn(cell, nuclei, () => polygon(cell, cell.nuclei, { color: "#ffe14d", weight: 1.5 }));
    }
  }
}

function filter() {
  for (const end of ["least", "most"]) part(`${end}-value`).textContent = `${part(end).value} %`;
  passing = cells.filter(passes);
  part("passing").textContent = `${passing.length.toLocaleString("en")} of ${cells.length.toLocaleString("en")} cells shown`;
  const kept = new Set(passing);
  for (const [group, figures] of gallery) {
    for (const [figure, cell] of figures) figure.hidden = !kept.has(cell);
    group.hidden = figures.every(([figure]) => figure.hidden);
  }
  draw();
}

for (const input of document.querySelectorAll("#overview input")) input.addEventListener("input", filter);
map.on("moveend", draw);
filter();
