"use strict";
// The heat map: keys along the top, queries down the side. A canvas of the size of the stage draws only the visible
// cells. Labels stay at the edges while scrolling.

const LABEL_SIZE = 12;
const MAX_LABEL_WIDTH = 150;
const READOUT_WIDTH = 260; // Pixels; page.css uses the same space for the readout next to the map.
const LABEL_ANGLE = (55 * Math.PI) / 180;

/** Sizes in pixels that fit the available width, unless cells would become too small. */
function layoutMap(matrix, available) {
  const labelWidth = (token) => Math.min(MAX_LABEL_WIDTH, textWidth(visibleToken(token), LABEL_SIZE));
  const widest = (tokens) => Math.max(...tokens.map(labelWidth)) + 4;
  const left = Math.ceil(widest(matrix.queries)) + 10;
  const top = Math.ceil(widest(matrix.keys) * Math.sin(LABEL_ANGLE)) + 18;
  const overhang = Math.ceil(widest(matrix.keys) * Math.cos(LABEL_ANGLE));
  const fitting = Math.floor((available - left - overhang) / matrix.columns);
  const cell = Math.max(16, Math.min(48, fitting));
  return {
    left, top, cell,
    width: left + cell * matrix.columns + overhang,
    height: top + cell * matrix.rows + 2,
  };
}

/** The layout on the page: with space for the readout on the right, unless the cells would become small. */
function pageLayout(matrix) {
  const available = element("stage").parentElement.clientWidth;
  const withReadout = layoutMap(matrix, available - READOUT_WIDTH);
  return withReadout.cell >= 28 ? withReadout : layoutMap(matrix, available);
}

/**
 * @param part {x, y, width, height}: the part of the map to draw at the origin of the surface
 * @param cursor {query, key}: the highlighted row and column; either may be missing
 * @param maxWeight the weight at the end of the colour scale
 */
function drawMap(surface, matrix, layout, part, cursor, maxWeight) {
  const { left, top, cell } = layout;
  surface.rectangle(0, 0, part.width, part.height, cssColour("panel"));
  const visible = (offset, extent, count) => [
    Math.max(0, Math.floor(offset / cell)),
    Math.min(count, Math.ceil((offset + extent) / cell)),
  ];
  const rowRange = visible(part.y, part.height - top, matrix.rows);
  const columnRange = visible(part.x, part.width - left, matrix.columns);
  const x = (column) => left + column * cell - part.x;
  const y = (row) => top + row * cell - part.y;
  surface.clip(left, top, part.width - left, part.height - top, () => {
    drawCells(surface, matrix, cell, rowRange, columnRange, x, y, maxWeight);
    drawCursor(surface, matrix, cell, cursor, x, y);
  });
  const labelText = (token) => truncateText(visibleToken(token), LABEL_SIZE, MAX_LABEL_WIDTH);
  const plain = { fill: cssColour("faint"), size: LABEL_SIZE };
  const highlighted = { fill: cssColour("ink"), size: LABEL_SIZE, bold: true };
  surface.clip(0, top, left, part.height - top, () => {
    for (let row = rowRange[0]; row < rowRange[1]; row++) {
      const style = row === cursor.query ? highlighted : plain;
      surface.text(left - 8, y(row) + cell / 2, labelText(matrix.queries[row]), { ...style, align: "right" });
    }
  });
  surface.clip(left - 8, 0, part.width - left + 8, top, () => {
    for (let column = columnRange[0]; column < columnRange[1]; column++) {
      const style = column === cursor.key ? highlighted : plain;
      surface.text(x(column) + cell / 2, top - 7, labelText(matrix.keys[column]), { ...style, angle: -55 });
    }
  });
}


function drawCells(surface, matrix, cell, [firstRow, lastRow], [firstColumn, lastColumn], x, y, maxWeight) {
  const { colour, textColour } = palette();
  for (let row = firstRow; row < lastRow; row++) {
    for (let column = firstColumn; column < lastColumn; column++) {
      const weight = matrix.values[row * matrix.columns + column];
      const fraction = maxWeight > 0 ? weight / maxWeight : 0;
      surface.rectangle(x(column), y(row), cell - 1, cell - 1, colour(fraction));
      if (cell >= 30 && weight >= 0.005) {
        const text = weight.toFixed(2).replace(/^0/, "");
        const style = { fill: textColour(fraction), size: 10, align: "center" };
        surface.text(x(column) + (cell - 1) / 2, y(row) + cell / 2, text, style);
      }
    }
  }
}

/** Frame the highlighted cell, row or column. */
function drawCursor(surface, matrix, cell, { query: row, key: column }, x, y) {
  const colour = cssColour("focus");
  const [width, height] = [cell * matrix.columns - 1, cell * matrix.rows - 1];
  if (row !== undefined && column !== undefined) surface.frame(x(column) - 0.5, y(row) - 0.5, cell, cell, colour, 2);
  else if (row !== undefined) surface.frame(x(0), y(row) - 0.5, width, cell, colour, 2);
  else if (column !== undefined) surface.frame(x(column) - 0.5, y(0), cell, height, colour, 2);
}

/** The row and the column at a point of the window; at a label, only one of the two. */
function cellAt(matrix, layout, part, pointX, pointY) {
  // Column labels are slanted to the right.
  const slant = Math.max(0, layout.top - 7 - pointY) / Math.tan(LABEL_ANGLE);
  const column = Math.floor((pointX - slant - layout.left + part.x) / layout.cell);
  const row = Math.floor((pointY - layout.top + part.y) / layout.cell);
  const cursor = {};
  if (pointY >= layout.top && row >= 0 && row < matrix.rows) cursor.query = row;
  if (pointX - slant >= layout.left && column >= 0 && column < matrix.columns) cursor.key = column;
  return cursor;
}

/** The cursor after an arrow key, given as [right, down]; the first key press selects the first row and column. */
function movedCursor({ query, key }, matrix, [right, down]) {
  if (query === undefined || key === undefined) return { query: query ?? 0, key: key ?? 0 };
  return {
    query: Math.max(0, Math.min(matrix.rows - 1, query + down)),
    key: Math.max(0, Math.min(matrix.columns - 1, key + right)),
  };
}

/** Fill the stage with the map; `onCursor(cursor)` is called initially and whenever the cursor changes. */
function showMap(stage, matrix, maxWeight, cursor, onCursor) {
  const layout = pageLayout(matrix);
  const canvas = document.createElement("canvas");
  const sizer = document.createElement("div");
  sizer.className = "sizer";
  sizer.style.width = `${layout.width}px`;
  sizer.style.height = `${layout.height}px`;
  sizer.append(canvas);
  stage.replaceChildren(sizer);
  resizeStage(stage, layout.width, layout.height);

  const visiblePart = () => {
    const { scrollLeft: x, scrollTop: y, clientWidth: width, clientHeight: height } = stage;
    return { x, y, width, height };
  };
  const draw = () => {
    const part = visiblePart();
    drawMap(prepareCanvas(canvas, part.width, part.height), matrix, layout, part, cursor, maxWeight);
  };
  const setCursor = (next) => {
    if (next.query === cursor.query && next.key === cursor.key) return;
    cursor = next;
    draw();
    onCursor(cursor);
  };
  const pointedCell = (event) => {
    const box = canvas.getBoundingClientRect();
    return cellAt(matrix, layout, visiblePart(), event.clientX - box.left, event.clientY - box.top);
  };
  stage.onscroll = () => requestAnimationFrame(draw);
  // A tap on a touch screen gives a click without a preceding pointer movement.
  stage.onpointermove = stage.onclick = (event) => setCursor(pointedCell(event));
  stage.onpointerleave = () => setCursor({});
  stage.onkeydown = (event) => {
    const arrow = !event.shiftKey && arrowDirection(event);
    if (!arrow) return;
    event.preventDefault();
    const next = movedCursor(cursor, matrix, arrow);
    const [left, top] = [next.key * layout.cell, next.query * layout.cell];
    stage.scrollLeft = Math.max(left + layout.cell + layout.left - stage.clientWidth, Math.min(stage.scrollLeft, left));
    stage.scrollTop = Math.max(top + layout.cell + layout.top - stage.clientHeight, Math.min(stage.scrollTop, top));
    setCursor(next);
  };
  draw();
  onCursor(cursor);
}

/** Give the stage the size of its content, limited by the window, plus space for a scroll bar. */
function resizeStage(stage, width, height) {
  const maxHeight = Math.round(0.76 * innerHeight);
  const scrollBar = 15;
  stage.style.height = `${Math.min(height + scrollBar, maxHeight)}px`;
  stage.style.width = `${width + (height + scrollBar > maxHeight ? scrollBar : 1)}px`;
  const { parentElement } = stage;
  parentElement.classList.toggle("side-readout", width + READOUT_WIDTH <= parentElement.clientWidth);
}

/** A surface on a canvas of this size in CSS pixels, cleared and scaled to the resolution of the screen. */
function prepareCanvas(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const [pixelWidth, pixelHeight] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== pixelWidth || canvas.height !== pixelHeight) {
    [canvas.width, canvas.height] = [pixelWidth, pixelHeight];
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return canvasSurface(context);
}
