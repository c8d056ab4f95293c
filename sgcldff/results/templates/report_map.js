"use strict";
// The map: the slide's overview, sharper tiles around cells, and a scale. A unit of the map is a pixel of the tiles, y up.

const content = JSON.parse(document.getElementById("content").textContent);
const part = (id) => document.getElementById(id);
const place = ([y, x]) => [-y, x];
const animated = !matchMedia("(prefers-reduced-motion: reduce)").matches;
const whole = L.latLngBounds([-content.height, 0], [0, content.width]);
const closest = Math.log2(content.mpp / 0.025);

part("look").hidden = false;
for (const shown of document.querySelectorAll(".js")) shown.hidden = false;
const map = L.map("map", {
  crs: L.CRS.Simple,
  attributionControl: false,
  zoomControl: true,
  zoomSnap: 0.25,
  minZoom: -16,
  maxZoom: closest,
  scrollWheelZoom: false,
  zoomAnimation: animated,
  fadeAnimation: animated,
  inertia: animated,
  maxBoundsViscosity: 0.8,
});
map.setMinZoom(Math.min(map.getBoundsZoom(whole), closest - 1));
map.setMaxBounds(whole.pad(0.3));
map.fitBounds(whole, { animate: false });
// A page that is scrolled past the map should not zoom it: the wheel zooms while the map has the focus.
part("map").addEventListener("focus", () => map.scrollWheelZoom.enable());
part("map").addEventListener("blur", () => map.scrollWheelZoom.disable());

const lacking = () => { part("lacking").hidden = false; };
const alt = "Overview of the slide";
L.imageOverlay(part("picture").src, whole, { alt }).addTo(map);
if (content.overview) {
  L.imageOverlay(`${content.folder}/overview.jpg`, whole, { alt: "" }).on("error", (event) => {
    event.target.remove();
    lacking();
  }).addTo(map);
}

const present = new Set(content.tiles);
const side = content.tilePx;
const Tiles = L.GridLayer.extend({
  createTile({ x, y }) {
    const tile = L.DomUtil.create("img");
    tile.alt = "";
    tile.onerror = lacking;
    const beyond = [content.width - x * side, content.height - y * side].map((rest) => 100 * Math.max(0, 1 - rest / side));
    tile.style.clipPath = `inset(0 ${beyond[0]}% ${beyond[1]}% 0)`;
    if (present.has(`${y}-${x}`)) tile.src = `${content.folder}/${y}-${x}.jpg`;
    return tile;
  },
});
if (present.size) {
  new Tiles({ tileSize: side, bounds: whole, minNativeZoom: 0, maxNativeZoom: 0, minZoom: -3, maxZoom: closest }).addTo(map);
}

const scale = L.control({ position: "bottomleft" });
scale.onAdd = () => {
  const bar = L.DomUtil.create("div", "scale");
  const show = () => {
    const most = 120 / 2 ** map.getZoom() * content.mpp;
    const power = 10 ** Math.floor(Math.log10(most));
    const length = power * [5, 2, 1].find((times) => times * power <= most);
    bar.style.width = `${length / content.mpp * 2 ** map.getZoom()}px`;
    bar.textContent = length < 1000 ? `${+length.toPrecision(1)} µm` : `${length / 1000} mm`;
  };
  map.on("zoomend", show);
  show();
  return bar;
};
scale.addTo(map);
