"use strict";
// What can be taken along: the view as a picture or a drawing, its numbers, and the table of heads.

/** The whole view as {width, height, draw(surface)}, with its title. */
function picture() {
  const title = `${element("title").textContent} (line ${sentence.number})`;
  const caption = element("caption").textContent;
  const [margin, heading] = [16, 52];
  const view = { map: mapPicture, lines: linesPicture, steps: stepPicture }[state.view]();
  const width = Math.max(view.width, 1.1 * widthOf(title, 15), widthOf(caption, 11)) + 2 * margin;
  const height = view.height + heading + 2 * margin;
  const draw = (surface) => {
    surface.rectangle(0, 0, width, height, named("panel"));
    surface.text(margin, margin + 10, title, { fill: named("ink"), size: 15, bold: true });
    surface.text(margin, margin + 32, caption, { fill: named("faint"), size: 11 });
    surface.shift(margin, heading + margin, () => view.draw(surface));
  };
  return { width, height, draw };
}

function mapPicture() {
  const matrix = matrixOf(state, sentence);
  const layout = layoutMap(matrix, 1200);
  const whole = { x: 0, y: 0, width: layout.width, height: layout.height };
  return { ...whole, draw: (surface) => drawMap(surface, matrix, layout, whole, {}, mostOf(matrix.values)) };
}

function linesPicture() {
  const matrix = matrixOf(state, sentence);
  const names = (tokens) => tokens.map((token) => shortened(shown(token), LABEL, WIDEST_LABEL));
  const [keys, queries] = [names(matrix.keys), names(matrix.queries)];
  const widest = (texts) => Math.max(...texts.map((text) => widthOf(text, LABEL)));
  const [x1, x2] = [widest(keys) + 8, widest(keys) + 312];
  const height = LINE_HEIGHT * Math.max(matrix.rows, matrix.columns);
  const draw = (surface) => {
    drawLines(surface, linesOf(matrix, {}), x1, x2, 0, height);
    const write = (texts, x, align) =>
      texts.forEach((text, place) => surface.text(x, (place + 0.5) * LINE_HEIGHT, text, { fill: named("ink"), align }));
    write(keys, x1 - 6, "right");
    write(queries, x2 + 6, "left");
  };
  return { width: x2 + 8 + widest(queries), height, draw };
}

function stepPicture() {
  const rows = stepRows();
  const draw = (surface) => rows.forEach(({ part, token, weight }, place) => {
    const middle = place * 20 + 10;
    if (token === undefined) return surface.text(0, middle, part, { fill: named("ink"), bold: true });
    surface.text(160, middle, shortened(shown(token), LABEL, WIDEST_LABEL), { fill: named("ink"), align: "right" });
    surface.rectangle(170, middle - 6, Math.max(1, 240 * weight), 12, named("reads"));
    return surface.text(420, middle, weight.toFixed(4), { fill: named("faint") });
  });
  return { width: 480, height: rows.length * 20, draw };
}

/** A step as rows: {part} where a part begins, {part, token, weight} for each of its tokens. */
function stepRows() {
  const { source, prefix, alternatives } = stepOf(state, sentence);
  const rows = (part, tokens, weights) => [
    { part },
    ...tokens.map((token, place) => ({ part, token, weight: weights[place] })),
  ];
  return [
    ...rows("source", source.tokens, source.weights),
    ...rows("prefix", prefix.tokens, prefix.weights),
    ...rows("alternatives", alternatives.map((one) => one.token), alternatives.map((one) => one.probability)),
  ];
}

/** The numbers of the view, as a table. */
function numbers() {
  if (state.view === "steps") {
    const rows = stepRows().filter(({ token }) => token !== undefined);
    return [["part", "token", "weight"], ...rows.map(({ part, token, weight }) => [part, token, weight.toFixed(6)])];
  }
  const matrix = matrixOf(state, sentence);
  const written = (row) => Array.from(rowOf(matrix, row), (weight) => weight.toFixed(6));
  const rows = matrix.queries.map((query, row) => [query, ...written(row)]);
  return [["", ...matrix.keys], ...rows];
}

/** The table of heads, as numbers. */
function summaryNumbers() {
  const summaries = sorted(summariesOf(sentence, state.kind, index.ablation), state.sort);
  const names = Object.keys(summaries[0]);
  return [names, ...summaries.map((one) => names.map((name) => one[name] ?? ""))];
}

function nameOf(ending) {
  const one = `layer${state.layer}.head${state.head}`;
  const heads = state.combine === "one" ? one : `${state.combine}${state.chosen.length}`;
  const view = state.view === "steps" ? `step${state.step}` : state.kind;
  return `${sentence.number}.${view}.${heads}.${ending}`;
}

function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function savePng() {
  const { width, height, draw } = picture();
  const canvas = document.createElement("canvas");
  // Browsers refuse canvases of more than some 16,000 pixels a side.
  const scale = Math.min(2, 16_000 / Math.max(width, height));
  [canvas.width, canvas.height] = [Math.ceil(width * scale), Math.ceil(height * scale)];
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  draw(canvasSurface(context));
  canvas.toBlob((blob) => save(blob, nameOf("png")));
}

function saveSvg() {
  const { width, height, draw } = picture();
  const surface = svgSurface(width, height);
  draw(surface);
  save(new Blob([surface.document()], { type: "image/svg+xml" }), nameOf("svg"));
}

const saveCsv = (rows, name) => save(new Blob([csv(rows)], { type: "text/csv" }), name);
