"use strict";

const { board, charts, pairs } = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);

// Charts: a reader's choices are their parameters; only the kind of a scale needs a new chart.

const ERRORS = 1; // Vega's level of messages: it warns of empty layers
const views = {};
let highlighted = "";

function choices(chart) {
  const controls = document.querySelectorAll(`select[data-chart="${chart}"]`);
  return Object.fromEntries([...controls].map((one) => [one.dataset.control, one.value]));
}

function withChoices(spec, chosen) {
  const made = structuredClone(spec);
  for (const one of made.params || []) {
    if (one.name in chosen) one.value = chosen[one.name];
    if (one.name === "highlight") one.value = highlighted;
  }
  const columns = Math.max(1, Math.floor(document.querySelector("main").clientWidth / 240));
  for (const { encoding } of made.layer || []) {
    if (chosen.scale) encoding.y.scale.type = chosen.scale;
    if (encoding.color && encoding.color.legend) encoding.color.legend.columns = columns;
  }
  return made;
}

async function draw(name) {
  const spec = withChoices(charts[name], choices(name));
  const options = { renderer: "svg", logLevel: ERRORS, actions: { export: true, source: false, compiled: false, editor: false } };
  const { view } = await vegaEmbed(`#chart-${name}`, spec, options);
  views[name] = view;
  view.addEventListener("click", (event, item) => {
    if (item && item.datum && item.datum.title) highlight(item.datum.title);
  });
}

function highlight(title) {
  highlighted = title === highlighted ? "" : title;
  for (const view of Object.values(views)) {
    try { view.signal("highlight", highlighted).run(); } catch { /* this chart shows no cells */ }
  }
  for (const row of document.querySelectorAll("#board tbody tr")) {
    row.classList.toggle("highlight", row.dataset.title === highlighted);
  }
}

for (const control of document.querySelectorAll("select[data-chart]")) {
  control.addEventListener("change", () => {
    const { chart, control: name } = control.dataset;
    if (name === "scale") draw(chart);
    else views[chart].signal(name, control.value).run();
  });
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
fill(find("board-reference"), named);

function wanted(row) {
  const role = find("board-role").value;
  const algorithm = find("board-algorithm").value;
  if (row.protocol !== find("board-protocol").value) return false;
  if (algorithm && row.algorithm !== algorithm) return false;
  const step = find("board-step").value;
  if (step === "usual" ? row.step === "common" : step && row.step !== step) return false;
  if (role === "best") return row.selected || ["published", "baseline"].includes(row.role);
  return !role || row.role === role || (role === "selected" && row.selected);
}

function rolesOf(row, after) {
  if (row.role === "baseline") return after === "chosen" ? ["selected", "published"] : ["published"];
  const roles = row.selected && after === "chosen" ? ["selected"] : [];
  return [...roles, row.role];
}

// The pair of a row and the reference: compared in the role that the row stands for.
function difference(row, after) {
  const other = find("board-reference").value;
  for (const role of rolesOf(row, after)) {
    for (const pair of pairs) {
      if (pair.role !== role || pair.protocol !== row.protocol) continue;
      const first = pair.algorithm_a === row.algorithm && pair.cell_a === row.cell && pair.algorithm_b === other;
      const second = pair.algorithm_b === row.algorithm && pair.cell_b === row.cell && pair.algorithm_a === other;
      if (!first && !second) continue;
      const ends = [pair.difference_lower, pair.difference_upper];
      return first
        ? { value: pair.difference, lower: ends[0], upper: ends[1] }
        : { value: -pair.difference, lower: -ends[1], upper: -ends[0] };
    }
  }
  return null;
}

function spelled(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  return value !== 0 && Math.abs(value) < 1e-12 ? "0 (rounding)" : String(Number(value.toPrecision(3)));
}

function shown() {
  const after = find("board-after").value;
  const rows = board.filter(wanted).map((row) => {
    const apart = difference(row, after);
    const { score_lower: lower, score_upper: upper, ...numbers } = row[after];
    return {
      ...row, ...numbers, apart,
      title: `${row.algorithm} ${row.cell}`,
      role: row.selected ? `${row.role}, selected` : row.role,
      interval: lower === null ? "" : `[${spelled(lower)}, ${spelled(upper)}]`,
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

function text(row, key) {
  if (key !== "difference" || !row.apart) return typeof row[key] === "string" ? row[key] : spelled(row[key]);
  const { value, lower, upper } = row.apart;
  return `${spelled(value)} [${spelled(lower)}, ${spelled(upper)}]`;
}

function fillBoard() {
  const body = document.createElement("tbody");
  for (const row of shown()) {
    const line = body.insertRow();
    line.dataset.title = row.title;
    line.classList.toggle("highlight", row.title === highlighted);
    line.addEventListener("click", () => highlight(row.title));
    for (const head of columns) {
      const { key } = head.dataset;
      const field = line.insertCell();
      field.textContent = text(row, key);
      field.classList.toggle("number", head.classList.contains("number"));
      field.classList.toggle("cell", key === "cell");
      if (key === "difference" && row.apart) {
        field.classList.toggle("sure", row.apart.lower > 0 || row.apart.upper < 0);
      }
    }
  }
  document.querySelector("#board tbody").replaceWith(body);
  for (const head of columns) {
    if (head.dataset.key === order.key) head.setAttribute("aria-sort", order.up ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
}

for (const head of columns) {
  if (head.dataset.key === "interval") continue;
  head.firstElementChild.addEventListener("click", () => {
    order.up = order.key === head.dataset.key ? !order.up : true;
    order.key = head.dataset.key;
    fillBoard();
  });
}
for (const id of ["protocol", "algorithm", "role", "step", "after", "reference"]) {
  find(`board-${id}`).addEventListener("change", fillBoard);
}

// Copies of what the leaderboard shows.

const writers = {
  csv: (lines) => lines.map((line) => line.map((field) => `"${field.replaceAll('"', '""')}"`).join(",")),
  markdown: ([head, ...lines]) => [head, head.map(() => "---"), ...lines].map((line) => `| ${line.join(" | ")} |`),
  latex: ([head, ...lines]) => {
    const safe = (field) => field.replace(/[&%_#$]/g, "\\$&");
    const row = (line) => `${line.map(safe).join(" & ")} \\\\`;
    return [`\\begin{tabular}{${"l".repeat(head.length)}}`, "\\toprule", row(head), "\\midrule",
      ...lines.map(row), "\\bottomrule", "\\end{tabular}"];
  },
};

function copied(kind) {
  const keys = columns.map((head) => head.dataset.key);
  const head = columns.map((one) => one.textContent);
  return writers[kind]([head, ...shown().map((row) => keys.map((key) => text(row, key)))]).join("\n");
}

async function copy(kind) {
  try {
    await navigator.clipboard.writeText(copied(kind));
  } catch { // a page opened from a file may not be allowed to
    const area = document.createElement("textarea");
    area.value = copied(kind);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  find("copied").textContent = `copied as ${kind}`;
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", () => copy(button.dataset.copy));
}

fillBoard();
Promise.all(Object.keys(charts).map(draw)).then(() => { document.body.dataset.drawn = "yes"; });
