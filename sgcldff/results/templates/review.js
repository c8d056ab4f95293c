"use strict";

const content = JSON.parse(document.getElementById("content").textContent);
const cells = content.cells;
const other = { label: content.other, colour: content.cannotTell.colour, key: "o" };
const cannotTell = { ...content.cannotTell, key: "u" };
const lettered = [...content.broader, ...content.foreign, other, cannotTell];
const KEY = "sgcldff-review/" + content.queue;
const part = (id) => document.getElementById(id);

// Answers by reviewer: Map of name -> Map of cell id -> {label, at}. Maps, since a name may be any text.
let reviewer = "";
let answers = new Map();
let at = 0;
let storing = true;

function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY)) ?? { reviewer: "", answers: [] };
    answers = new Map(kept.answers.map(([name, given]) => [name, new Map(given)]));
    reviewer = String(kept.reviewer);
  } catch {
    answers = new Map();
    reviewer = "";
  }
}

// Browsers limit how often the history may be written.
function markStored(kept) {
  if ((history.state?.kept ?? false) !== kept) history.replaceState({ kept }, "");
}

function save() {
  try {
    const given = [...answers].map(([name, ofName]) => [name, [...ofName]]);
    localStorage.setItem(KEY, JSON.stringify({ reviewer, answers: given }));
    markStored(reviewer !== "");
    storing = true;
  } catch {
    storing = false;
  }
}

// Under load, Chromium occasionally gives a document an empty store; after a reload the stored one is back.
function startOrReload() {
  load();
  if (!reviewer && history.state?.kept) {
    markStored(false);
    location.reload();
    return;
  }
  save();
  show(firstOpen(0) ?? 0);
  if (!reviewer) askName();
}

function mine() {
  if (!answers.has(reviewer)) answers.set(reviewer, new Map());
  return answers.get(reviewer);
}

const answered = () => cells.filter((cell) => mine().has(cell.id));

function firstOpen(from) {
  const order = [...cells.keys()].map((index) => (from + index) % cells.length);
  return order.find((index) => !mine().has(cells[index].id));
}

function answer(label) {
  if (!reviewer) {
    askName();
    return;
  }
  const cell = cells[at];
  mine().set(cell.id, { label, at: new Date().toISOString() });
  save();
  const open = firstOpen(at);
  say(`Cell ${at + 1}: ${label}.` + (open === undefined ? " All cells are answered." : ""));
  show(at + 1 < cells.length ? at + 1 : (open ?? at));
}

const inWords = (label) => label !== undefined && label.startsWith(other.label);

function choose(label) {
  if (label !== other.label) answer(label);
  else if (!reviewer) askName();
  else askWords();
}

function askWords() {
  const given = mine().get(cells[at].id)?.label;
  part("word").value = inWords(given) ? given.slice(other.label.length) : "";
  part("words").showModal();
  part("word").select();
}

function say(text) {
  part("said").textContent = text;
}

function show(index) {
  at = Math.max(0, Math.min(cells.length - 1, index));
  const cell = cells[at];
  const given = mine().get(cell.id)?.label;
  part("missing").hidden = true;
  if (part("crop").getAttribute("src") !== cell.crop) {
    part("crop").src = cell.crop;
    part("context").src = cell.crop;
  }
  part("crop").alt = `Cell ${at + 1} of ${cells.length}`;
  part("position").textContent = `Cell ${at + 1} of ${cells.length}` + (given ? `, answered: ${given}` : "");
  part("slide").textContent = cell.slide;
  part("place").textContent = `${cell.place[0].toLocaleString("en")} µm, ${cell.place[1].toLocaleString("en")} µm`;
  part("border").hidden = !cell.atBorder;
  part("back").disabled = at === 0;
  part("next").disabled = at === cells.length - 1;
  for (const button of [...part("answers").children, ...part("foreign").children]) {
    const own = button.dataset.label;
    button.setAttribute("aria-pressed", String(own === given || (own === other.label && inWords(given))));
  }
  showProgress();
  showGuess(cell);
  for (const ahead of cells.slice(at + 1, at + 4)) new Image().src = ahead.crop;
}

function showProgress() {
  const count = answered().length;
  part("bar").value = count;
  part("count").textContent = `${count} of ${cells.length} answered`;
  part("name").textContent = reviewer || "–";
  part("done").hidden = count < cells.length;
  part("open").disabled = count === cells.length;
  part("download").disabled = count === 0;
  part("unkept").hidden = storing;
}

function showGuess(cell) {
  const shown = part("hint").getAttribute("aria-pressed") === "true";
  for (const element of document.querySelectorAll(".guess")) element.hidden = !shown;
  part("predicted").textContent = shown ? cell.label : "";
  for (const old of document.querySelectorAll(".share")) old.remove();
  content.classes.forEach((kind, index) => {
    if (!shown) return;
    const share = document.createElement("span");
    share.className = "share";
    share.style.setProperty("--share", cell.probabilities[index]);
    share.textContent = `${(100 * cell.probabilities[index]).toFixed(0)} %`;
    part("answers").children[index].append(share);
  });
}

function toggle(button) {
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  part("large").classList.toggle("whole", part("zoom").getAttribute("aria-pressed") === "true");
  showGuess(cells[at]);
}

const quoted = (text) => (/[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function table() {
  const rows = answered().map((cell) => {
    const given = mine().get(cell.id);
    return [cell.id, given.label, reviewer, given.at];
  });
  return [["cell_id", "label", "reviewer", "reviewed_at"], ...rows].map((row) => row.map(quoted).join(",") + "\r\n").join("");
}

function download() {
  const address = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = "answers.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  say(`${answered().length} answers of ${reviewer} downloaded as answers.csv.`);
}

function askName() {
  const given = answers.get(reviewer)?.size ?? 0;
  part("reviewer").value = reviewer;
  part("take").checked = false;
  part("takeover").hidden = given === 0;
  part("takeover-text").textContent = `I am only correcting the name: keep the ${given} answers of ${reviewer}`;
  part("start").showModal();
  part("reviewer").select();
}

function begin() {
  const name = part("reviewer").value.normalize("NFC").trim().replace(/\s+/g, " ");
  if (part("take").checked && name !== reviewer) {
    answers.set(name, new Map([...mine(), ...(answers.get(name) ?? [])]));
    answers.delete(reviewer);
  }
  reviewer = name;
  save();
  show(firstOpen(0) ?? 0);
}

function digitOf(event) {
  if (/^[1-9]$/.test(event.key)) return event.key;
  return event.shiftKey ? undefined : /^Digit([1-9])$/.exec(event.code)?.[1];
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || part("start").open || part("words").open) return;
  const digit = digitOf(event);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (digit !== undefined && digit <= content.classes.length) {
    if (!event.repeat) answer(content.classes[digit - 1].label);
  } else if (lettered.some((choice) => choice.key === key)) {
    if (!event.repeat) choose(lettered.find((choice) => choice.key === key).label);
  } else if (key === "ArrowLeft" || key === "Backspace") {
    show(at - 1);
  } else if (key === "ArrowRight") {
    show(at + 1);
  } else if (key === "n") {
    show(firstOpen(at + 1) ?? at);
  } else if (key === "g") {
    toggle(part("hint"));
  } else if (key === "w") {
    toggle(part("zoom"));
  } else {
    return;
  }
  event.preventDefault();
}

function makeButtons() {
  const keyed = content.classes.map((choice, index) => ({ ...choice, key: index < 9 ? String(index + 1) : "" }));
  const broader = content.broader.map((choice) => ({ ...choice, shown: `${choice.label}, subtype unclear` }));
  const own = [...keyed, ...broader, cannotTell];
  [...own, ...content.foreign, { ...other, shown: "other, in words" }].forEach((choice, index) => {
    const [button, key, swatch, name] = ["button", "kbd", "span", "span"].map((tag) => document.createElement(tag));
    button.type = "button";
    button.dataset.label = choice.label;
    button.setAttribute("aria-pressed", "false");
    if (choice.key) button.setAttribute("aria-keyshortcuts", choice.key);
    key.textContent = choice.key;
    key.setAttribute("aria-hidden", "true");
    swatch.className = "swatch";
    swatch.style.background = choice.colour;
    name.textContent = choice.shown ?? choice.label;
    button.append(key, swatch, name);
    button.addEventListener("click", () => choose(choice.label));
    part(index < own.length ? "answers" : "foreign").append(button);
  });
}

const clicks = {
  back: () => show(at - 1),
  next: () => show(at + 1),
  open: () => show(firstOpen(at + 1) ?? at),
  zoom: () => toggle(part("zoom")),
  hint: () => toggle(part("hint")),
  change: askName,
  download,
};

makeButtons();
for (const [id, handler] of Object.entries(clicks)) part(id).addEventListener("click", handler);
document.addEventListener("keydown", onKey);
part("crop").addEventListener("error", () => { part("missing").hidden = false; });
part("form").addEventListener("submit", begin);
part("words-form").addEventListener("submit", () => {
  const words = part("word").value.normalize("NFC").trim().replace(/\s+/g, " ").toLowerCase();
  if (words) answer(other.label + words);
});
part("start").addEventListener("cancel", (event) => { if (!reviewer) event.preventDefault(); });
part("reviewer").addEventListener("input", () => {
  const blank = part("reviewer").value.trim() === "";
  part("reviewer").setCustomValidity(blank ? "Enter your name." : "");
});
window.addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  load();
  show(at);
});
startOrReload();
