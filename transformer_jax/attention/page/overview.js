"use strict";
// All heads at a glance, each a small heat map, and a table of what each does.

const THUMBNAIL = 64;
const NAMES = { encoder: "Encoder", decoder: "Decoder", cross: "Cross" };

/** Draw a head at most THUMBNAIL pixels wide and high: of the weights that share a pixel, the largest. */
function drawThumbnail(canvas, matrix, most) {
  const [rows, columns] = [Math.min(THUMBNAIL, matrix.rows), Math.min(THUMBNAIL, matrix.columns)];
  const strongest = new Float64Array(rows * columns);
  for (let query = 0; query < matrix.rows; query++) {
    const row = Math.floor((query * rows) / matrix.rows);
    for (let key = 0; key < matrix.columns; key++) {
      const place = row * columns + Math.floor((key * columns) / matrix.columns);
      strongest[place] = Math.max(strongest[place], matrix.values[query * matrix.columns + key]);
    }
  }
  const { rgb } = palette();
  const image = new ImageData(columns, rows);
  strongest.forEach((weight, place) => {
    image.data.set(rgb(most > 0 ? weight / most : 0), 4 * place);
    image.data[4 * place + 3] = 255;
  });
  [canvas.width, canvas.height] = [columns, rows];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** The grids of the three kinds; a thumbnail is drawn when it comes into sight. */
function showOverview(container, sentence, mostOf, choose, go) {
  const waiting = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      waiting.unobserve(target);
      const { kind, layer, head } = target.dataset;
      const matrix = decoded(sentence, kind).head(Number(layer), Number(head));
      drawThumbnail(target.firstChild, matrix, mostOf(matrix.values));
    }
  });
  container.replaceChildren(...KINDS.map((kind) => {
    const { layers, heads } = sentence[kind];
    const grid = document.createElement("div");
    grid.className = "grid";
    grid.style.setProperty("--heads", heads);
    grid.append(label(""), ...Array.from({ length: heads }, (_, head) => label(head)));
    for (let layer = 0; layer < layers; layer++) {
      grid.append(label(layer));
      for (let head = 0; head < heads; head++) {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "head";
        Object.assign(button.dataset, { kind, layer, head });
        button.setAttribute("aria-label", `${NAMES[kind]}, layer ${layer}, head ${head}`);
        button.title = `layer ${layer}, head ${head}`;
        button.onclick = (event) => choose(kind, layer, head, event.shiftKey || event.ctrlKey || event.metaKey);
        button.append(document.createElement("canvas"));
        waiting.observe(button);
        grid.append(button);
      }
    }
    const section = document.createElement("section");
    section.dataset.kind = kind;
    const heading = document.createElement("h2");
    heading.textContent = NAMES[kind];
    section.append(heading, grid);
    return section;
  }));
  container.onkeydown = (event) => {
    const step = !event.shiftKey && arrowOf(event);
    if (!step) return;
    event.preventDefault();
    go(...step);
    container.querySelector(".head[tabindex='0']")?.focus();
  };

  function label(text) {
    const span = document.createElement("span");
    span.className = "label";
    span.textContent = text;
    return span;
  }
}

/** Scroll a box, and nothing around it, until a part of it is in sight. */
function reveal(box, part) {
  const [outer, inner] = [box.getBoundingClientRect(), part.getBoundingClientRect()];
  box.scrollTop += Math.max(0, inner.bottom - outer.bottom) - Math.max(0, outer.top - inner.top);
}

/** Mark the head that is enlarged, and those that are combined. */
function markOverview(container, state) {
  for (const section of container.children) section.classList.toggle("current", section.dataset.kind === state.kind);
  for (const button of container.querySelectorAll(".head")) {
    const { kind, layer, head } = button.dataset;
    const here = kind === state.kind && Number(layer) === state.layer && Number(head) === state.head;
    const chosen = kind === state.kind && state.chosen.some(([l, h]) => l === Number(layer) && h === Number(head));
    button.classList.toggle("here", state.combine === "one" && here);
    button.classList.toggle("chosen", chosen);
    button.tabIndex = here ? 0 : -1;
    button.setAttribute("aria-pressed", state.combine === "one" ? here : chosen);
  }
}

/** What the table shows: [name in the data, heading, explanation, whether it is a share]. */
const MEASURES = [
  ["entropy", "Entropy", "bits; mean over queries. Low: it looks at few tokens", false],
  ["confidence", "Largest", "the largest weight of a query; mean over queries", true],
  ["distance", "Distance", "tokens between the diagonal and what is read; weighted mean", false],
  ["diagonal", "Diagonal", "share of the weight on the diagonal", true],
  ["previous", "Previous", "share on the token before the diagonal", true],
  ["next", "Next", "share on the token after the diagonal", true],
  ["special", "[EOS]", "share on [EOS] or [SOS]", true],
  ["punctuation", "Punct.", "share on tokens of punctuation alone", true],
];
const ABLATION = [
  ["loss", "Δ loss", "change of the loss, in nats a token, when this head alone is masked", false],
  ["bleu", "Δ BLEU", "change of sacreBLEU when this head alone is masked", false],
];

/** The summaries of a kind's heads, computed once for a sentence. */
function summariesOf(sentence, kind, ablation) {
  sentence.summaries ??= {};
  sentence.summaries[kind] ??= headsOf(sentence[kind]).map(([layer, head]) => {
    const summary = summarise(decoded(sentence, kind).head(layer, head), sidesOf(sentence, kind).keys);
    const change = ([name]) => [name, ablation[kind][name][layer]?.[head]];
    const masked = ablation ? Object.fromEntries(ABLATION.map(change)) : {};
    return { layer, head, ...summary, ...masked, looks: characterise(kind, summary) };
  });
  return sentence.summaries[kind];
}

/** Rows in the order that "entropy" or "-entropy" says. */
function sorted(summaries, sort) {
  const name = sort.replace("-", "");
  if (!name) return summaries;
  const sign = sort.startsWith("-") ? -1 : 1;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (a ?? Infinity) - (b ?? Infinity));
  return [...summaries].sort((a, b) => sign * compare(a[name], b[name]));
}

/** Fill the table with a kind's heads. Its headings stay, so that what is focused stays focused. */
function showSummary(table, summaries, sort, ablation, { sortBy, choose }) {
  const elsewhere = ([name, title, explanation, isShare]) =>
    [name, title, `${explanation}; ${ablation.conditions}, not this one alone`, isShare];
  const measures = [...MEASURES, ...(ablation ? ABLATION.map(elsewhere) : [])];
  const headings = [
    ["layer", "Head", "in the order of the arrays"],
    ["looks", "Looks like", "a hint, from this sentence alone"],
    ...measures,
  ];
  if (!table.tHead.rows.length) {
    table.tHead.insertRow().append(...headings.map(([name, title, explanation]) => {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.dataset.name = name;
      const button = control(title, `${title}: ${explanation}. Sort`, () => sortBy(name));
      button.title = explanation;
      cell.append(button);
      return cell;
    }));
  }
  for (const cell of table.tHead.rows[0].cells) {
    const order = { [cell.dataset.name]: "ascending", [`-${cell.dataset.name}`]: "descending" }[sort];
    cell.setAttribute("aria-sort", order ?? "none");
  }
  const most = (name) => Math.max(1e-9, ...summaries.map((one) => Math.abs(one[name] ?? 0)));
  const full = new Map(measures.map(([name, , , isShare]) => [name, isShare ? 1 : most(name)]));
  table.tBodies[0].replaceChildren(...sorted(summaries, sort).map((one) => {
    const line = document.createElement("tr");
    Object.assign(line.dataset, { layer: one.layer, head: one.head });
    const first = document.createElement("th");
    first.scope = "row";
    const name = `layer ${one.layer}, head ${one.head}`;
    first.append(control(name, `Show ${name}`, () => choose(one.layer, one.head)));
    const looks = document.createElement("td");
    looks.textContent = one.looks;
    looks.className = "looks";
    line.append(first, looks, ...measures.map(([measure]) => {
      const cell = document.createElement("td");
      cell.dataset.measure = measure;
      cell.style.setProperty("--share", Math.abs(one[measure] ?? 0) / full.get(measure));
      cell.textContent = one[measure]?.toFixed(3) ?? "";
      return cell;
    }));
    return line;
  }));
}

/** Mark the head that is enlarged. */
function markSummary(table, { layer, head }) {
  for (const { dataset, classList } of table.tBodies[0].rows) {
    classList.toggle("here", Number(dataset.layer) === layer && Number(dataset.head) === head);
  }
}
