"use strict";

const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const { charts, copiedFields, rounding } = data;

// Rows come as columns, and a column with few values as these and the place of each row's.
function rowsOf(packed) {
  const columns = Object.entries(packed).map(([key, found]) => [
    key, Array.isArray(found) ? found : found.at.map((place) => found.values[place]),
  ]);
  const count = columns.length ? columns[0][1].length : 0;
  return Array.from({ length: count }, (_, n) => Object.fromEntries(columns.map(([key, found]) => [key, found[n]])));
}

const board = rowsOf(data.board);
const pairs = rowsOf(data.pairs);
for (const spec of Object.values(charts)) {
  for (const [name, packed] of Object.entries(spec.datasets)) spec.datasets[name] = rowsOf(packed);
}

// Charts: a reader's choices are their parameters; only the kind of a scale needs a new chart.

const ERRORS = 1; // Vega's level of messages: it warns of empty layers
const views = {};
let highlighted = "";

// The value of a slider is a position, for which its words stand beside it; that of checkboxes is what is ticked.
function valueOf(control) {
  if (control.type === "range") return control.valueAsNumber;
  if (control.type !== "fieldset") return control.value;
  return [...control.querySelectorAll(":checked")].map((box) => box.value);
}

function choices(chart) {
  const controls = document.querySelectorAll(`[data-chart="${chart}"]`);
  return Object.fromEntries([...controls].map((one) => [one.dataset.control, valueOf(one)]));
}

function withChoices(spec, chosen) {
  const made = structuredClone(spec);
  for (const one of made.params || []) {
    if (one.name in chosen) one.value = chosen[one.name];
  }
  const width = document.querySelector("main").clientWidth;
  const beside = (pixels) => Math.max(1, Math.floor(width / pixels));
  if (made.usermeta?.square) made.width = made.height = Math.min(made.height, width - BESIDE);
  if (made.facet) made.columns = Math.max(1, Math.floor((width - LABELS) / made.usermeta.map));
  for (const { encoding } of made.layer || made.spec?.layer || [made.spec || made]) {
    const scaled = made.facet ? encoding.color : encoding.y;
    if (chosen.scale && scaled.scale) scaled.scale.type = chosen.scale;
    if (encoding.stroke?.legend) encoding.stroke.legend.columns = beside(240);
  }
  return made;
}

// The title of an axis may be an expression of the reader's choices, after an equals sign.
function withSignals(spec) {
  const isExpression = (key, value) => ["title", "text"].includes(key) && String(value).startsWith("=");
  return JSON.parse(JSON.stringify(spec), (key, value) => isExpression(key, value) ? { signal: value.slice(1) } : value);
}

const LABELS = 110; // pixels of the labels beside maps, and of the margins of the page
const BESIDE = 140; // pixels of the labels and the title beside a square, and of the margins of the page
const FIELD = 30; // pixels that a number of the matrix needs

async function draw(name) {
  const spec = withChoices(charts[name], choices(name));
  if (name === "matrix") {
    const sides = new Set(Object.values(spec.datasets).flat().map((row) => row.a)).size;
    find(`chart-${name}`).style.minWidth = `${220 + FIELD * sides}px`;
  }
  const actions = { export: true, source: false, compiled: false, editor: false };
  const options = { renderer: "svg", logLevel: ERRORS, patch: withSignals, actions };
  const { view } = await vegaEmbed(`#chart-${name}`, spec, options);
  views[name] = view;
  light(name);
  view.addEventListener("click", (event, item) => {
    if (item && item.datum && item.datum.title) toggle(item.datum.title);
  });
}

// A chart without the highlighted cell shows all of its cells as they are.
function light(name) {
  views[name].signal("highlight", choices(name).highlight || "").run();
}

function highlight(title) {
  highlighted = title;
  for (const select of document.querySelectorAll("select[data-control=highlight]")) {
    select.value = title;
    if (select.selectedIndex < 0) select.value = "";
  }
  Object.keys(views).forEach(light);
  document.querySelectorAll("#board tbody tr").forEach(mark);
}

function toggle(title) {
  highlight(title === highlighted ? "" : title);
}

function mark(row) {
  const chosen = row.dataset.title === highlighted;
  row.classList.toggle("highlight", chosen);
  row.querySelector("button").setAttribute("aria-pressed", chosen);
}

function changed(control) {
  const { chart, control: name } = control.dataset;
  if (name === "scale") draw(chart);
  else views[chart].signal(name, valueOf(control)).resize().run(); // labels may need more room
}

// What a position of a slider means depends on the protocol.
function label(slider) {
  const words = JSON.parse(slider.dataset.words)[choices(slider.dataset.chart).protocol];
  slider.nextElementSibling.value = words[slider.valueAsNumber];
}

for (const slider of document.querySelectorAll("input[data-chart]")) {
  label(slider);
  slider.addEventListener("input", () => {
    label(slider);
    changed(slider);
  });
}

for (const boxes of document.querySelectorAll("fieldset[data-chart]")) {
  boxes.addEventListener("change", () => changed(boxes));
}

for (const control of document.querySelectorAll("select[data-chart]")) {
  control.addEventListener("change", () => {
    if (control.dataset.control === "protocol") choose(control.value);
    else if (control.dataset.control === "highlight") highlight(control.value);
    else changed(control);
    if (control.dataset.control !== "statistic") return;
    // Shares of failures are often 0, for which a logarithmic axis has no place.
    const scale = document.querySelector(`select[data-chart="${control.dataset.chart}"][data-control="scale"]`);
    scale.value = control.value === "failed" ? "linear" : "log";
    changed(scale);
  });
}

// One protocol for the whole page.
function choose(protocol) {
  find("board-protocol").value = protocol;
  for (const control of document.querySelectorAll("select[data-control=protocol]")) {
    control.value = protocol;
    changed(control);
  }
  document.querySelectorAll("input[data-chart]").forEach(label);
  fillBoard();
}

// The leaderboard.

const order = { key: "score", up: true };
const columns = [...document.querySelectorAll("#board th")];

function fill(select, values) {
  for (const [value, text] of values) select.add(new Option(text, value));
}

const labels = new Map(board.map((row) => [row.algorithm, row.label]));
const named = [...labels].sort((a, b) => a[1].localeCompare(b[1]));
fill(find("board-algorithm"), named);
const steps = new Set(board.map((row) => row.step).filter((step) => step !== "none"));
fill(find("board-step"), [...steps].map((step) => [step, step]));
const compared = new Set(pairs.flatMap((pair) => [pair.algorithm_a, pair.algorithm_b]));
fill(find("board-reference"), named.filter(([algorithm]) => compared.has(algorithm)));

// Until the reader chooses another, the reference is the best selected cell of the protocol.
let referenceChosen = false;

function lead() {
  const { value } = find("board-protocol");
  const selected = board.filter((row) => row.selected && row.protocol === value && compared.has(row.algorithm));
  const [leader] = selected.sort((a, b) => a.chosen.score - b.chosen.score);
  if (leader) find("board-reference").value = leader.algorithm;
}

find("board-reference").addEventListener("change", () => { referenceChosen = true; });

function wanted(row) {
  const role = find("board-role").value;
  const algorithm = find("board-algorithm").value;
  if (row.protocol !== find("board-protocol").value) return false;
  if (algorithm && row.algorithm !== algorithm) return false;
  const step = find("board-step").value;
  if (step === "judged" ? !row.judged : step && row.step !== step) return false;
  if (role === "best") return row.selected || ["published", "baseline", "predictions"].includes(row.role);
  return !role || row.role === role || (role === "selected" && row.selected);
}

// The pair of a row and the reference. After the chosen update selected cells are compared, after the last one
// published cells, and those at another's budget with published ones.
function difference(row, after) {
  const other = find("board-reference").value;
  const roles = after === "chosen" ? ["selected"] : ["published", "equal-budget"];
  const is = (pair, side) => ["algorithm", "cell", "step"].every((key) => pair[`${key}_${side}`] === row[key]);
  for (const pair of pairs) {
    if (!roles.includes(pair.role) || pair.protocol !== row.protocol) continue;
    const { difference: value, difference_lower: lower, difference_upper: upper } = pair;
    if (is(pair, "a") && pair.algorithm_b === other && row.algorithm !== other) return { value, lower, upper };
    if (is(pair, "b") && pair.algorithm_a === other && row.algorithm !== other) {
      return { value: -value, lower: -upper, upper: -lower };
    }
  }
  return null;
}

function formatted(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  if (value !== 0 && Math.abs(value) < rounding) return "<" + rounding;
  return Math.abs(value) < 1e6 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}

function shown() {
  const after = find("board-after").value;
  const rows = board.filter(wanted).map((row) => {
    const apart = difference(row, after);
    return {
      ...row, ...row[after], apart,
      title: `${row.algorithm} ${row.cell}`,
      role: row.selected ? `${row.role}, selected` : row.role,
      difference: apart ? apart.value : null,
    };
  });
  const { key, up } = order;
  const place = (row) => (row[key] === "inf" ? Infinity : row[key]);
  rows.sort((a, b) => {
    const [x, y] = [place(a), place(b)];
    if (x === null || y === null) return (x === null) - (y === null); // what is missing comes last
    const least = typeof x === "string" ? x.localeCompare(y) : x - y;
    return up ? least : -least;
  });
  return rows;
}

function bracketed(value, lower, upper) {
  return lower === null ? formatted(value) : `${formatted(value)} [${formatted(lower)}, ${formatted(upper)}]`;
}

function text(row, key) {
  if (key === "score") return bracketed(row.score, row.score_lower, row.score_upper);
  if (key === "difference" && row.apart) return bracketed(row.apart.value, row.apart.lower, row.apart.upper);
  return typeof row[key] === "string" ? row[key] : formatted(row[key]);
}

// A row is chosen by its button: the keyboard reaches it, and a click on it is one on the row.
function button(label) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  return made;
}

function fillBoard() {
  if (!referenceChosen) lead();
  const body = document.createElement("tbody");
  for (const row of shown()) {
    const line = body.insertRow();
    line.dataset.title = row.title;
    line.addEventListener("click", () => toggle(row.title));
    for (const head of columns) {
      const { key } = head.dataset;
      const field = line.insertCell();
      field.append(key === "label" ? button(row.label) : text(row, key));
      field.classList.toggle("number", head.classList.contains("number"));
      field.classList.toggle("cell", key === "cell");
      if (key === "difference" && row.apart) {
        field.classList.toggle("sure", row.apart.lower > 0 || row.apart.upper < 0);
      }
    }
    mark(line);
  }
  document.querySelector("#board tbody").replaceWith(body);
  find("board-rows").textContent = `${body.rows.length} row${body.rows.length === 1 ? "" : "s"}`;
  for (const head of columns) {
    if (head.dataset.key === order.key) head.setAttribute("aria-sort", order.up ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
}

for (const head of columns) {
  head.firstElementChild.addEventListener("click", () => {
    order.up = order.key === head.dataset.key ? !order.up : true;
    order.key = head.dataset.key;
    fillBoard();
  });
}
find("board-protocol").addEventListener("change", () => choose(find("board-protocol").value));
for (const id of ["algorithm", "role", "step", "after", "reference"]) {
  find(`board-${id}`).addEventListener("change", fillBoard);
}

// Copies of what the leaderboard shows.

const isNumber = (n) => columns[n].classList.contains("number");

const LATEX = {
  "<": "$<$", ">": "$>$", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\\": "\\textbackslash{}",
};

function inLatex(words) {
  return words.replace(/[&%_#${}<>~^\\]/g, (letter) => LATEX[letter] ?? `\\${letter}`);
}

const writers = {
  csv: (lines) => lines.map((line) => line.map((field) => `"${field.replaceAll('"', '""')}"`).join(",")),
  markdown: ([head, ...lines]) => [head, head.map(() => "---"), ...lines].map((line) => `| ${line.join(" | ")} |`),
  latex: ([head, ...lines]) => {
    const row = (line) => `${line.join(" & ")} \\\\`;
    const signs = (words) => words.replace(/(\d[\d.]*)e([+-]\d+)|-/g,
      (minus, digits, power) => digits ? `$${digits}\\times10^{${Number(power)}}$` : "$-$");
    const field = (value, n) => isNumber(n) ? signs(inLatex(value)) : inLatex(value);
    const kinds = head.map((_, n) => isNumber(n) ? "r" : "l").join("");
    return [`\\begin{tabular}{${kinds}}`, "\\toprule", row(head.map(inLatex)), "\\midrule",
      ...lines.map((line) => row(line.map(field))), "\\bottomrule", "\\end{tabular}"];
  },
};

// CSV has every number in full and in a field of its own; the others have what is shown.
function inFull(row) {
  const { value, lower, upper } = row.apart || {};
  const reference = row.apart ? find("board-reference").value : null;
  const fields = { ...row, reference, difference: value, difference_lower: lower, difference_upper: upper };
  return copiedFields.map((key) => String(fields[key] ?? ""));
}

function copied(kind) {
  if (kind === "csv") return writers.csv([copiedFields, ...shown().map(inFull)]).join("\n");
  const keys = columns.map((head) => head.dataset.key);
  const reference = labels.get(find("board-reference").value);
  const head = columns.map((one) => one.textContent.replace("difference", `difference from ${reference}`));
  return writers[kind]([head, ...shown().map((row) => keys.map((key) => text(row, key)))]).join("\n");
}

// The clipboard's own functions are refused to pages from files, and to those within MLflow's.
function copy(kind) {
  const area = document.createElement("textarea");
  area.value = copied(kind);
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  find("copied").textContent = `copied as ${kind}`;
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", () => copy(button.dataset.copy));
}

fillBoard();
Promise.all(Object.keys(charts).map(draw)).then(() => { document.body.dataset.drawn = "yes"; });

// MLflow shows the page as an object in memory, whose parts have no addresses.

if (location.protocol === "blob:") {
  for (const link of document.querySelectorAll("a[href^='#']")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      find(link.hash.slice(1)).scrollIntoView();
    });
  }
}
