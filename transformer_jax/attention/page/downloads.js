"use strict";
// Downloads: the view as PNG or SVG, its numbers as CSV, and the table of heads as CSV.

/** The current view with its title, as {width, height, draw(surface)}. */
function composeImage() {
  const title = `${element("title").textContent} (line ${sentence.number})`;
  const caption = element("caption").textContent;
  const [margin, headingHeight] = [16, 52];
  const view = { map: mapImage, lines: linesImage, steps: stepImage }[state.view]();
  const width = Math.max(view.width, 1.1 * textWidth(title, 15), textWidth(caption, 11)) + 2 * margin;
  const height = view.height + headingHeight + 2 * margin;
  const draw = (surface) => {
    surface.rectangle(0, 0, width, height, cssColour("panel"));
    surface.text(margin, margin + 10, title, { fill: cssColour("ink"), size: 15, bold: true });
    surface.text(margin, margin + 32, caption, { fill: cssColour("faint"), size: 11 });
    surface.translate(margin, headingHeight + margin, () => view.draw(surface));
  };
  return { width, height, draw };
}

function mapImage() {
  const matrix = selectedMatrix(state, sentence);
  const layout = layoutMap(matrix, 1200);
  const part = { x: 0, y: 0, width: layout.width, height: layout.height };
  const maxWeight = fullColourWeight(matrix.values);
  return { ...part, draw: (surface) => drawMap(surface, matrix, layout, part, {}, maxWeight) };
}

function linesImage() {
  const matrix = selectedMatrix(state, sentence);
  const labels = (tokens) => tokens.map((token) => truncateText(visibleToken(token), LABEL_SIZE, MAX_LABEL_WIDTH));
  const [keys, queries] = [labels(matrix.keys), labels(matrix.queries)];
  const widest = (texts) => Math.max(...texts.map((text) => textWidth(text, LABEL_SIZE)));
  const [x1, x2] = [widest(keys) + 8, widest(keys) + 312];
  const height = LINE_HEIGHT * Math.max(matrix.rows, matrix.columns);
  const draw = (surface) => {
    drawLines(surface, linesToDraw(matrix, {}), x1, x2, 0, height);
    const drawLabels = (texts, x, align) =>
      texts.forEach((text, position) =>
        surface.text(x, (position + 0.5) * LINE_HEIGHT, text, { fill: cssColour("ink"), align }),
      );
    drawLabels(keys, x1 - 6, "right");
    drawLabels(queries, x2 + 6, "left");
  };
  return { width: x2 + 8 + widest(queries), height, draw };
}

function stepImage() {
  const rows = stepRows();
  const draw = (surface) => rows.forEach(({ part, token, weight }, index) => {
    const y = index * 20 + 10;
    if (token === undefined) return surface.text(0, y, part, { fill: cssColour("ink"), bold: true });
    const label = truncateText(visibleToken(token), LABEL_SIZE, MAX_LABEL_WIDTH);
    surface.text(160, y, label, { fill: cssColour("ink"), align: "right" });
    surface.rectangle(170, y - 6, Math.max(1, 240 * weight), 12, cssColour("from-query"));
    return surface.text(420, y, weight.toFixed(4), { fill: cssColour("faint") });
  });
  return { width: 480, height: rows.length * 20, draw };
}

/** The rows of a step: {part} starts a part, {part, token, weight} is one of its tokens. */
function stepRows() {
  const { source, prefix, alternatives } = stepData(state, sentence);
  const rows = (part, tokens, weights) => [
    { part },
    ...tokens.map((token, index) => ({ part, token, weight: weights[index] })),
  ];
  const tokens = alternatives.map(({ token }) => token);
  const probabilities = alternatives.map(({ probability }) => probability);
  return [
    ...rows("source", source.tokens, source.weights),
    ...rows("prefix", prefix.tokens, prefix.weights),
    ...rows("alternatives", tokens, probabilities),
  ];
}

/** The numbers of the view as rows of cells. */
function viewTable() {
  if (state.view === "steps") {
    const rows = stepRows().filter(({ token }) => token !== undefined);
    return [["part", "token", "weight"], ...rows.map(({ part, token, weight }) => [part, token, weight.toFixed(6)])];
  }
  const matrix = selectedMatrix(state, sentence);
  const cells = (row) => Array.from(matrixRow(matrix, row), (weight) => weight.toFixed(6));
  const rows = matrix.queries.map((query, row) => [query, ...cells(row)]);
  return [["", ...matrix.keys], ...rows];
}

/** The table of heads as rows of cells. */
function summaryTable() {
  const summaries = sortSummaries(headSummaries(sentence, state.kind, index.ablation), state.sort);
  const names = Object.keys(summaries[0]);
  return [names, ...summaries.map((summary) => names.map((name) => summary[name] ?? ""))];
}

/** The file name of a download, for example "1.cross.layer2.head0.png". */
function fileName(suffix) {
  const head = `layer${state.layer}.head${state.head}`;
  const heads = state.combine === "one" ? head : `${state.combine}${state.chosen.length}`;
  const view = state.view === "steps" ? `step${state.step}` : state.kind;
  return `${sentence.number}.${view}.${heads}.${suffix}`;
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function downloadPng() {
  const { width, height, draw } = composeImage();
  const canvas = document.createElement("canvas");
  // Browsers refuse canvases with sides of more than about 16,000 pixels.
  const scale = Math.min(2, 16_000 / Math.max(width, height));
  [canvas.width, canvas.height] = [Math.ceil(width * scale), Math.ceil(height * scale)];
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  draw(canvasSurface(context));
  canvas.toBlob((blob) => download(blob, fileName("png")));
}

function downloadSvg() {
  const { width, height, draw } = composeImage();
  const surface = svgSurface(width, height);
  draw(surface);
  download(new Blob([surface.document()], { type: "image/svg+xml" }), fileName("svg"));
}

const downloadCsv = (rows, name) => download(new Blob([toCsv(rows)], { type: "text/csv" }), name);
