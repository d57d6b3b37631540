"use strict";
// The page's behaviour: plotly's figures in the page's colours, a card for the network pointed at, two networks
// compared, and tables that can be sorted and saved. Text of the study goes in by textContent, never as markup.

const byId = (id) => document.getElementById(id);
const narrow = () => innerWidth < 600;
const palette = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#8a8a8a"];
let data, trials, at, pins = [];

function make(tag, attributes = {}, ...children) {
  const space = ["svg", "rect", "text"].includes(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const made = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const code = (text) => make("code", {}, ...text.split(",").flatMap((one, i) => (i ? [",", make("wbr"), one] : [one])));
const number = (text) => parseFloat(text.replace("−", "-").replace("≈ ", "")); // the first in a text
const escaped = (text) => make("i", {}, String(text)).innerHTML;
const unescaped = (text) => new DOMParser().parseFromString(text ?? "", "text/html").body.textContent;

// ---- Figures

const drawn = () => [...document.querySelectorAll("[data-figure] > .js-plotly-plot")];
const ofTrials = () => drawn().filter((div) => div.data.some(hasTrials));
const hasTrials = (trace) => trace.hoverinfo === "none";
const keys = (trace) => Array.from(trace.customdata, ([number, fidelity]) => `${fidelity} ${number}`);

function layoutFor(figure) {
  const color = (name) => getComputedStyle(byId("swatch-" + name)).color;
  const layout = { ...structuredClone(figure.layout), paper_bgcolor: "transparent", plot_bgcolor: "transparent" };
  layout.font = { color: color("ink"), size: narrow() ? 11 : 13, family: "system-ui, sans-serif" };
  layout.hoverlabel = { align: "left", bgcolor: color("panel"), font: { color: color("ink") } };
  layout.modebar = { bgcolor: "transparent", color: color("line"), activecolor: color("ink") };
  layout.margin = { l: 8, r: 8, t: 8, b: 8 };
  delete layout.height;
  for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
    const axis = Object.assign(layout[name], { gridcolor: color("line"), zerolinecolor: color("line"), automargin: true });
    // The title of what lies up stands above the figure, where it overlaps nothing.
    const lines = axis.title?.text?.match(narrow() ? /.{1,42}(\s|$)/g : /.{1,90}(\s|$)/g) ?? [];
    axis.title = { text: name[0] === "y" ? "" : lines.join("<br>"), standoff: 10 };
    if (name[0] === "x") Object.assign(axis, { nticks: narrow() ? 5 : 12, tickangle: 0 });
  }
  return layout;
}

function plot(div, traces, layout) {
  Plotly.newPlot(div, traces, layout, { responsive: true, displaylogo: false });
  div.querySelectorAll("svg").forEach((one) => one.setAttribute("aria-hidden", true)); // its figure has a label
}

function draw(holder) {
  const div = holder.querySelector("div"), figure = data.figures[holder.dataset.figure];
  if (div.data) return;
  holder.querySelector("figcaption").textContent = unescaped(figure.layout.yaxis?.title?.text);
  if (narrow()) div.style.height = Math.min(parseInt(div.style.height), 420) + "px";
  plot(div, structuredClone(figure.data), layoutFor(figure)); // which plotly changes
  if (!figure.data.some(hasTrials)) return;
  const index = ({ points: [{ data: trace, pointNumber }] }) => trace.customdata && at.get(keys(trace)[pointNumber]);
  div.on("plotly_hover", (found) => show(index(found), found.event.clientX, found.event.clientY));
  div.on("plotly_unhover", hide);
  div.on("plotly_click", (found) => pin(index(found)));
}

function redraw() {
  for (const div of drawn()) Plotly.relayout(div, layoutFor(data.figures[div.parentNode.dataset.figure]));
  colour();
  mark();
}

// Colour the points of trials as the list says: by role, fidelity, a dimension, or the probability.
function colour() {
  const { value: by, selectedOptions: [option] } = byId("colour");
  const values = by === "chance" ? trials.chance : trials.params[by];
  const names = [...new Set(values)].filter((one) => one !== null).sort();
  const isNumber = names.every((one) => typeof one === "number");
  const number = (key) => (isNumber ? values[at.get(key)] : names.indexOf(values[at.get(key)]));
  const title = { text: escaped(option.text), side: "right" };
  const steps = names.flatMap((_, i) => [i, i + 1].map((end) => [end / names.length, palette[i % 8]]));
  const scale = isNumber
    ? { colorscale: "Viridis", colorbar: { thickness: 12, title } }
    : { colorscale: steps, cmin: -0.5, cmax: names.length - 0.5,
        colorbar: { thickness: 12, title, tickvals: names.map((_, i) => i), ticktext: names.map(escaped) } };
  for (const div of ofTrials()) {
    const first = data.figures[div.parentNode.dataset.figure].data;
    const own = first.map((_, i) => i).filter((i) => hasTrials(first[i]));
    Plotly.update(div, {
      "marker.color": own.map((i) => (values ? keys(first[i]).map(number) : first[i].marker.color)),
      "marker.coloraxis": values ? "coloraxis" : null,
      visible: own.map((i) => first[i].visible !== "legendonly" || by === "fidelity" || "legendonly"),
    }, { coloraxis: { ...(values && scale), showscale: Boolean(values) }, showlegend: !values }, own);
  }
}

// ---- Networks

function diagram(index) {
  const stages = data.networks[trials.network[index]], widest = Math.max(1, ...stages.map((one) => one[1]));
  const words = stages.map(([name, channels, pixels, blocks, joins]) =>
    `${name}: ${channels} channels at ${pixels} px${blocks ? `, ${blocks} × ${joins}` : ""}`);
  const size = { viewBox: `0 0 ${stages.length * 58} 92`, role: "img", "aria-label": words.join("; ") };
  return make("svg", size, ...stages.flatMap(([name, channels, , blocks, joins], i) => {
    const height = 6 + 44 * Math.sqrt(channels / widest), step = blocks ? Math.min(7, 46 / blocks) : 46;
    const boxes = Array.from({ length: blocks || 1 }, (_, block) => make("rect", {
      x: i * 58 + 4 + block * step, y: 52 - height, width: Math.max(step - 1, 1), height, opacity: blocks ? 1 : 0.45 }));
    const lines = [name, `${channels} ch`, blocks ? `${blocks} × ${joins}` : ""];
    return [...boxes, ...lines.map((line, row) => make("text", { x: i * 58 + 4, y: 64 + row * 12 }, line))];
  }));
}

const chanceOf = (index) => (trials.chance[index] === null ? "" : `${Math.round(100 * trials.chance[index])} %`);

function described(index) {
  const title = `Trial ${trials.number[index]}` + (data.several ? ` at ${trials.fidelity[index]}` : "");
  const values = data.quantities.map(({ label, unit }, q) => [label, trials.shown[q][index], unit])
    .filter(([, text]) => text !== "–").map(([label, text, unit]) => make("div", {}, `${label}: ${text} ${unit}`));
  const notes = `${trials.feasible[index] ? "" : "Breaks a constraint. "}Weights ${trials.kept[index] ? "" : "not "}kept.`;
  return [make("b", {}, title), make("div", {}, code(trials.text[index])), diagram(index), ...values,
    make("div", { class: "note" }, notes)];
}

function show(index, x, y) {
  if (index === undefined) return;
  const card = byId("card");
  card.replaceChildren(...described(index));
  card.hidden = false;
  const { width, height } = card.getBoundingClientRect();
  card.style.left = `${Math.max(8, Math.min(x + 16, innerWidth - width - 8))}px`;
  card.style.top = `${Math.max(8, y + 16 + height > innerHeight ? y - height - 16 : y + 16)}px`;
}

const hide = () => (byId("card").hidden = true);

function pin(index) {
  if (index === undefined) return;
  pins = pins.includes(index) ? pins.filter((one) => one !== index) : [...pins.slice(-1), index];
  const names = pins.map((one) => encodeURIComponent(`${trials.fidelity[one]} ${trials.number[one]}`));
  history.replaceState(null, "", `#${names.join(",")}`);
  mark();
  compare();
}

function unpin(index) {
  pin(index);
  (document.querySelector("#compare button") ?? document.querySelector(`[data-pins="${index}"]`))?.focus();
}

function mark() {
  for (const one of document.querySelectorAll("[data-pins]"))
    one.setAttribute("aria-pressed", pins.includes(Number(one.dataset.pins)));
  for (const div of ofTrials()) {
    const annotations = div._fullData.filter(hasTrials).flatMap((trace) => keys(trace).flatMap((key, i) => {
      const which = pins.indexOf(at.get(key)), place = { x: trace.x[i], y: trace.y[i], ax: 14, ay: -28 };
      return which < 0 ? [] : [{ ...place, text: `<b>${"AB"[which]}</b>`, arrowcolor: div.layout.font.color }];
    }));
    Plotly.relayout(div, { annotations });
  }
}

function compare() {
  const section = byId("compare"), boxes = pins.map((index, which) =>
    make("div", { class: "card" }, `${"AB"[which]} · `, ...described(index),
      make("button", { type: "button", "aria-label": `Unpin ${"AB"[which]}`, onclick: () => unpin(index) }, "Unpin")));
  section.hidden = !pins.length;
  if (pins.length)
    byId("pinned").textContent = pins.map((index, which) => `${"AB"[which]}: trial ${trials.number[index]}`).join(", ");
  section.lastElementChild.replaceChildren(make("div", { class: "pair" }, ...boxes));
  if (pins.length === 2) compareBoth(section.lastElementChild, ...pins);
}

function compareBoth(place, a, b) {
  const signed = (value, decimals) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(decimals);
  const row = (name, left, right, change = "") => make("tr", {}, make("th", { scope: "row" }, name),
    ...[left, right, change].map((text) => make("td", { class: left === right ? "number" : "number differs" }, `${text ?? "–"}`)));
  const values = data.quantities.map(({ label, unit, decimals }, q) => {
    const texts = [a, b].map((one) => trials.shown[q][one]), [left, right] = texts.map(number);
    const error = Math.hypot(...texts.map((text) => number(text.split("± ")[1] ?? "0")));
    const apart = Math.abs(right - left) < 2 * error ? ", not told apart" : "";
    const change = isNaN(right - left) ? "" : signed(right - left, decimals) + apart;
    return row(`${label} ${unit && `(${unit})`}`, ...texts, change);
  });
  const dimensions = data.dimensions.map((name, d) => row(name, trials.params[d][a], trials.params[d][b]));
  const networks = [a, b].map((one) => new Map(data.networks[trials.network[one]].map((stage) => [stage[0], stage])));
  const names = [...new Set(networks.flatMap((one) => [...one.keys()]))];
  const cost = (stage) => Object.values(stage?.[5] ?? {}).reduce((sum, one) => sum + one, 0);
  const stages = names.map((name) => {
    const [left, right] = networks.map((one) => one.get(name));
    const words = (one) => one && `${one[1]} ch${one[3] ? ` × ${one[3]} ${one[4]}` : ""}, ${cost(one).toFixed(2)}`;
    return row(`${name} (${data.cost})`, words(left), words(right), signed(cost(right) - cost(left), 2));
  });
  const head = make("tr", {}, ...["", "A", "B", "B − A"].map((text) => make("th", { class: "number", scope: "col" }, text)));
  const chances = row("Non-dominated", chanceOf(a), chanceOf(b));
  const table = make("table", {}, make("caption", {}, "A and B compared"), make("thead", {}, head), make("tbody", {}, ...values, chances, ...dimensions, ...stages));
  const what = data.cost === "ms" ? "Latency by layer, by the device's profile (ms)" : "Multiply-adds by layer (10⁶)";
  const div = make("div", { style: "height: 360px" });
  const figure = make("figure", { "data-figure": "costs", "aria-label": what }, make("figcaption", {}, what), div);
  place.append(make("div", { class: "scroll" }, table), figure);
  const bars = names.flatMap((name) => networks.map((one, which) => [name, "AB"[which], one.get(name)?.[5] ?? {}]));
  const kinds = [...new Set(bars.flatMap((bar) => Object.keys(bar[2])))];
  const traces = kinds.map((kind, i) => ({ type: "bar", name: kind.replaceAll("_", " "), marker: { color: palette[i % 8] },
    x: [bars.map((bar) => bar[0]), bars.map((bar) => bar[1])], y: bars.map((bar) => bar[2][kind] ?? 0) }));
  const legend = { orientation: "h", y: 1.02, yanchor: "bottom" };
  data.figures.costs = { data: traces, layout: { barmode: "stack", legend, xaxis: {}, yaxis: {} } };
  plot(div, traces, layoutFor(data.figures.costs));
}

// ---- Tables

// Make a table sortable and savable. `rows` are the texts of its cells; `body` returns a row's element once it is shown.
function sortable(table, headings, rows, body) {
  let order = rows.map((_, i) => i), shown = 20, sorted, sign = 1;
  const fill = () => table.tBodies[0].replaceChildren(...order.slice(0, shown).map(body));
  const sort = (column) => {
    sign = sorted === column ? -sign : 1;
    sorted = column;
    const texts = rows.map((row) => row[column]);
    const numbers = texts.map(number);
    order.sort((i, j) => {
      const [a, b] = [numbers[i], numbers[j]];
      return isNaN(a) && isNaN(b) ? sign * texts[i].localeCompare(texts[j]) : isNaN(a) - isNaN(b) || sign * (a - b);
    });
    [...table.tHead.rows[0].cells].forEach((cell, i) =>
      cell.setAttribute("aria-sort", i !== column ? "none" : sign > 0 ? "ascending" : "descending"));
    fill();
  };
  headings.forEach((text, i) => table.tHead.rows[0].cells[i].replaceChildren(
    make("button", { type: "button", onclick: () => sort(i), title: "Sort" }, text)));
  const save = () => {
    const lines = [headings, ...order.map((i) => rows[i])]
      .map((cells) => cells.map((text) => `"${text.replaceAll('"', '""')}"`).join(","));
    const href = URL.createObjectURL(new Blob(["\ufeff" + lines.join("\r\n")], { type: "text/csv" }));
    make("a", { download: `${table.dataset.name}.csv`, href }).click();
  };
  const more = make("button", { type: "button", onclick: () => { shown = rows.length; fill(); more.remove(); saver.focus(); } },
    `Show all ${rows.length}`);
  const saver = make("button", { type: "button", onclick: save, "aria-label": `Save ${table.dataset.name} as CSV` }, "Save as CSV");
  table.parentNode.after(make("div", { class: "bar" }, ...(rows.length > shown ? [more] : []), saver));
  fill();
}

function pinButton(index) {
  const open = ({ target }) => show(index, target.getBoundingClientRect().right, target.getBoundingClientRect().bottom);
  return make("button", { type: "button", "data-pins": index, "aria-pressed": pins.includes(index), title: "Compare",
    "aria-label": `Compare trial ${trials.number[index]}`, "aria-describedby": "card",
    onclick: () => pin(index), onfocus: open, onmouseenter: open, onblur: hide, onmouseleave: hide }, trials.number[index]);
}

function enhance(table) {
  const rows = [...table.tBodies[0].rows], cells = (row) => [...row.cells].map((cell) => cell.textContent.trim().replace(/\s+/g, " "));
  const texts = rows.map(cells);
  for (const row of rows) if (at.has(row.dataset.trial)) row.cells[1].replaceChildren(pinButton(at.get(row.dataset.trial)));
  sortable(table, cells(table.tHead.rows[0]), texts, (i) => rows[i]);
}

function listTrials() {
  const named = data.quantities.map(({ label, unit }) => label + (unit && ` (${unit})`));
  const headings = ["Trial", "Fidelity", "Network", ...named, "Non-dominated", "Weights"];
  const rows = trials.number.map((number, i) => [`${number}`, trials.fidelity[i], trials.text[i],
    ...trials.shown.map((texts) => texts[i]), chanceOf(i), trials.kept[i] ? "kept" : "not kept"]);
  const kind = (c) => (c === 2 ? "wide" : "number");
  const body = (i) => make("tr", { class: trials.feasible[i] ? "" : "off" }, ...rows[i].map((text, c) =>
    make("td", { class: kind(c) }, c === 0 ? pinButton(i) : c === 2 ? code(text) : text)));
  const head = make("tr", {}, ...headings.map((_, c) => make("th", { class: kind(c), scope: "col" })));
  const table = make("table", { "data-name": "trials" }, make("caption", {}, "Every complete trial"), make("thead", {}, head), make("tbody"));
  byId("trials").querySelector(".scroll").append(table);
  byId("trials").hidden = !rows.length;
  sortable(table, headings, rows, body);
}

// ---- Start

async function start() {
  const packed = Uint8Array.from(atob(byId("data").textContent), (letter) => letter.charCodeAt(0));
  data = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  trials = data.trials;
  data.several = new Set(trials.fidelity).size > 1;
  at = new Map(trials.number.map((number, i) => [`${trials.fidelity[i]} ${number}`, i]));
  const choices = [["", "role"], ...(data.several ? [["fidelity", "fidelity"]] : []), ["chance", "probability of non-dominance"],
    ...data.dimensions.map((name, d) => [d, name])];
  byId("colour").append(...choices.map(([value, text]) => make("option", { value }, text)));
  byId("colour").selectedIndex = Math.max(0, choices.findIndex(([value]) => `${value}` === sessionStorage.colour));
  byId("colour").addEventListener("change", () => { sessionStorage.colour = byId("colour").value; colour(); });
  const holders = [...document.querySelectorAll("[data-figure]")];
  holders.slice(0, 1).forEach(draw);
  document.querySelectorAll("table.sortable").forEach(enhance);
  listTrials();
  colour();
  location.hash.slice(1).split(",").map((key) => at.get(decodeURIComponent(key))).forEach(pin);
  document.documentElement.dataset.ready = "";
  if (location.protocol.startsWith("http")) follow();
  const root = document.documentElement.dataset, dark = matchMedia("(prefers-color-scheme: dark)");
  byId("theme").addEventListener("click", () => {
    root.theme = (root.theme ?? (dark.matches ? "dark" : "light")) === "dark" ? "light" : "dark";
    redraw();
  });
  dark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => { holders.forEach(draw); redraw(); });
  addEventListener("afterprint", redraw);
  addEventListener("keydown", ({ key }) => key === "Escape" && hide());
  for (const one of holders) { // one a task, so that the page answers in between
    await new Promise((done) => setTimeout(done));
    draw(one);
  }
  if (pins.length || byId("colour").value) redraw();
}

// Show what a run has added since, where the page is served.
async function follow(known) {
  const answer = await fetch(location.pathname, { method: "HEAD" }).catch(() => null), version = answer?.headers.get("ETag");
  if (known && version && version !== known) location.reload();
  setTimeout(follow, 10000, known ?? version);
}

start();
