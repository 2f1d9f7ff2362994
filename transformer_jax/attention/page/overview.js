"use strict";
// The overview: every head as a small heat map, and a table that summarizes every head.

const MAX_THUMBNAIL_SIZE = 64;
const KIND_NAMES = { encoder: "Encoder", decoder: "Decoder", cross: "Cross" };

/** Draw a head in at most MAX_THUMBNAIL_SIZE pixels per side; a pixel shows the largest weight that falls on it. */
function drawThumbnail(canvas, matrix, maxWeight) {
  const rows = Math.min(MAX_THUMBNAIL_SIZE, matrix.rows);
  const columns = Math.min(MAX_THUMBNAIL_SIZE, matrix.columns);
  const largest = new Float64Array(rows * columns);
  for (let query = 0; query < matrix.rows; query++) {
    const row = Math.floor((query * rows) / matrix.rows);
    for (let key = 0; key < matrix.columns; key++) {
      const pixel = row * columns + Math.floor((key * columns) / matrix.columns);
      largest[pixel] = Math.max(largest[pixel], matrix.values[query * matrix.columns + key]);
    }
  }
  const { rgb } = palette();
  const image = new ImageData(columns, rows);
  largest.forEach((weight, pixel) => {
    image.data.set(rgb(maxWeight > 0 ? weight / maxWeight : 0), 4 * pixel);
    image.data[4 * pixel + 3] = 255;
  });
  [canvas.width, canvas.height] = [columns, rows];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Show a grid of heads per kind; a thumbnail is drawn when it becomes visible. */
function showOverview(container, sentence, maxWeightOf, onSelect, onMove) {
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      const { kind, layer, head } = target.dataset;
      const matrix = decodedHeads(sentence, kind).head(Number(layer), Number(head));
      drawThumbnail(target.firstChild, matrix, maxWeightOf(matrix.values));
    }
  });
  container.replaceChildren(...KINDS.map((kind) => {
    const section = document.createElement("section");
    section.dataset.kind = kind;
    const heading = document.createElement("h2");
    heading.textContent = KIND_NAMES[kind];
    section.append(heading, makeHeadGrid(kind, sentence[kind], onSelect, observer));
    return section;
  }));
  container.onkeydown = (event) => {
    const arrow = !event.shiftKey && arrowDirection(event);
    if (!arrow) return;
    event.preventDefault();
    onMove(...arrow);
    container.querySelector(".head[tabindex='0']")?.focus();
  };
}

/** The heads of one kind, a row per layer. */
function makeHeadGrid(kind, { layers, heads }, onSelect, observer) {
  const grid = document.createElement("div");
  grid.className = "grid";
  grid.style.setProperty("--heads", heads);
  const makeLabel = (text) => {
    const span = document.createElement("span");
    span.className = "label";
    span.textContent = text;
    return span;
  };
  grid.append(makeLabel(""), ...Array.from({ length: heads }, (_, head) => makeLabel(head)));
  for (let layer = 0; layer < layers; layer++) {
    grid.append(makeLabel(layer));
    for (let head = 0; head < heads; head++) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "head";
      Object.assign(button.dataset, { kind, layer, head });
      button.setAttribute("aria-label", `${KIND_NAMES[kind]}, layer ${layer}, head ${head}`);
      button.title = `layer ${layer}, head ${head}`;
      button.onclick = (event) => onSelect(kind, layer, head, event.shiftKey || event.ctrlKey || event.metaKey);
      button.append(document.createElement("canvas"));
      observer.observe(button);
      grid.append(button);
    }
  }
  return grid;
}

/** Scroll a box, but not the page around it, until one of its elements is visible. */
function scrollIntoBox(box, child) {
  const [outer, inner] = [box.getBoundingClientRect(), child.getBoundingClientRect()];
  box.scrollTop += Math.max(0, inner.bottom - outer.bottom) - Math.max(0, outer.top - inner.top);
}

/** Mark the selected head or the combined heads. */
function markOverview(container, state) {
  for (const section of container.children) section.classList.toggle("current", section.dataset.kind === state.kind);
  for (const button of container.querySelectorAll(".head")) {
    const [kind, layer, head] = [button.dataset.kind, Number(button.dataset.layer), Number(button.dataset.head)];
    const isSelected = kind === state.kind && layer === state.layer && head === state.head;
    const isCombined = kind === state.kind && state.chosen.some(([l, h]) => l === layer && h === head);
    button.classList.toggle("selected", state.combine === "one" && isSelected);
    button.classList.toggle("combined", isCombined);
    button.tabIndex = isSelected ? 0 : -1;
    button.setAttribute("aria-pressed", state.combine === "one" ? isSelected : isCombined);
  }
}

/** The columns of the table: [name in the data, heading, explanation, whether the values are shares of 1]. */
const MEASURES = [
  ["entropy", "Entropy", "entropy of a query's weights in bits; low if a few keys have most of the weight", false],
  ["confidence", "Largest", "largest weight of a query", true],
  ["distance", "Distance", "mean distance between keys and the diagonal in tokens, weighted by attention", false],
  ["diagonal", "Diagonal", "weight on the diagonal", true],
  ["previous", "Previous", "weight on the token before the diagonal", true],
  ["next", "Next", "weight on the token after the diagonal", true],
  ["special", "[EOS]", "weight on [EOS] and [SOS]", true],
  ["punctuation", "Punct.", "weight on tokens that consist of punctuation and symbols", true],
];
const HEAD_IMPORTANCE_MEASURES = [
  ["loss", "Δ loss", "change of the loss, in nats per token, when only this head is masked", false],
  ["bleu", "Δ BLEU", "change of sacreBLEU when only this head is masked", false],
];

/** The summaries of the heads of a kind, computed once per sentence. */
function headSummaries(sentence, kind, importance) {
  sentence.summaries ??= {};
  sentence.summaries[kind] ??= listHeads(sentence[kind]).map(([layer, head]) => {
    const summary = summarizeHead(decodedHeads(sentence, kind).head(layer, head), axisTokens(sentence, kind).keys);
    const change = ([name]) => [name, importance[kind][name][layer]?.[head]];
    const changes = importance ? Object.fromEntries(HEAD_IMPORTANCE_MEASURES.map(change)) : {};
    return { layer, head, ...summary, ...changes, looks: classifyHead(kind, summary) };
  });
  return sentence.summaries[kind];
}

/** The summaries in ascending ("entropy") or descending ("-entropy") order of a measure. */
function sortSummaries(summaries, sort) {
  const name = sort.replace("-", "");
  if (!name) return summaries;
  const sign = sort.startsWith("-") ? -1 : 1;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (a ?? Infinity) - (b ?? Infinity));
  return [...summaries].sort((a, b) => sign * compare(a[name], b[name]));
}

/** Fill the table with the heads of a kind. The headings are reused, so they keep the keyboard focus. */
function showSummary(table, summaries, sort, importance, { onSort, onSelect }) {
  const withConditions = ([name, title, explanation, isShare]) =>
    [name, title, `${explanation}; measured on ${importance.conditions}`, isShare];
  const measures = [...MEASURES, ...(importance ? HEAD_IMPORTANCE_MEASURES.map(withConditions) : [])];
  if (!table.tHead.rows.length) addHeadings(table, measures, onSort);
  for (const cell of table.tHead.rows[0].cells) {
    const order = { [cell.dataset.name]: "ascending", [`-${cell.dataset.name}`]: "descending" }[sort];
    cell.setAttribute("aria-sort", order ?? "none");
  }
  const largest = (name) => Math.max(1e-9, ...summaries.map((summary) => Math.abs(summary[name] ?? 0)));
  const fullBar = new Map(measures.map(([name, , , isShare]) => [name, isShare ? 1 : largest(name)]));
  const rows = sortSummaries(summaries, sort).map((summary) => makeSummaryRow(summary, fullBar, onSelect));
  table.tBodies[0].replaceChildren(...rows);
}

function addHeadings(table, measures, onSort) {
  const headings = [
    ["layer", "Head", "layer and head, numbered as in the arrays"],
    ["looks", "Looks like", "rough classification for this sentence only"],
    ...measures,
  ];
  table.tHead.insertRow().append(...headings.map(([name, title, explanation]) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.dataset.name = name;
    const button = makeButton(title, `${title}: ${explanation}. Sort`, () => onSort(name));
    button.title = explanation;
    cell.append(button);
    return cell;
  }));
}

/** A row of the table; `fullBar` has the value of each measure that fills its cell with the bar. */
function makeSummaryRow(summary, fullBar, onSelect) {
  const row = document.createElement("tr");
  Object.assign(row.dataset, { layer: summary.layer, head: summary.head });
  const nameCell = document.createElement("th");
  nameCell.scope = "row";
  const name = `layer ${summary.layer}, head ${summary.head}`;
  nameCell.append(makeButton(name, `Show ${name}`, () => onSelect(summary.layer, summary.head)));
  const looks = document.createElement("td");
  looks.textContent = summary.looks;
  looks.className = "looks";
  row.append(nameCell, looks, ...[...fullBar].map(([measure, full]) => {
    const cell = document.createElement("td");
    cell.dataset.measure = measure;
    cell.style.setProperty("--share", Math.abs(summary[measure] ?? 0) / full);
    cell.textContent = summary[measure]?.toFixed(3) ?? "";
    return cell;
  }));
  return row;
}

/** Mark the row of the selected head. */
function markSummary(table, { layer, head }) {
  for (const { dataset, classList } of table.tBodies[0].rows) {
    classList.toggle("selected", Number(dataset.layer) === layer && Number(dataset.head) === head);
  }
}
