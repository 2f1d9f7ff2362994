"use strict";
// The heat map: keys along the top, queries down the side. Only what the window shows is drawn, on a canvas of the
// window's size; names stay at the edges, as in a spreadsheet.

const LABEL = 12;
const WIDEST_LABEL = 150;
const BESIDE = 260; // Pixels for what is pointed at: page.css has them too.
const SLANT = (55 * Math.PI) / 180;

/** Sizes in pixels, for a width that should not be overrun unless cells would be too small to read. */
function layoutMap(matrix, available) {
  const width = (token) => Math.min(WIDEST_LABEL, widthOf(shown(token), LABEL));
  const widest = (tokens) => Math.max(...tokens.map(width)) + 4;
  const left = Math.ceil(widest(matrix.queries)) + 10;
  const top = Math.ceil(widest(matrix.keys) * Math.sin(SLANT)) + 18;
  const overhang = Math.ceil(widest(matrix.keys) * Math.cos(SLANT));
  const fitting = Math.floor((available - left - overhang) / matrix.columns);
  const cell = Math.max(16, Math.min(48, fitting));
  return {
    left, top, cell,
    width: left + cell * matrix.columns + overhang,
    height: top + cell * matrix.rows + 2,
  };
}

/** The layout on the page: beside it stands what is pointed at, unless that would make the cells small. */
function onPage(matrix) {
  const room = element("stage").parentElement.clientWidth;
  const beside = layoutMap(matrix, room - BESIDE);
  return beside.cell >= 28 ? beside : layoutMap(matrix, room);
}

/**
 * @param part {x, y, width, height}: the part of the whole map that is drawn, at 0, 0 of the surface
 * @param cursor {query, key}: what is pointed at; either may be missing
 * @param most the weight that has the full colour
 */
function drawMap(surface, matrix, layout, part, cursor, most) {
  const { left, top, cell } = layout;
  const [ink, faint, ground, focus] = ["ink", "faint", "panel", "focus"].map(named);
  const { colour, ink: inkOn } = palette();
  surface.rectangle(0, 0, part.width, part.height, ground);
  const visible = (offset, extent, count) => [
    Math.max(0, Math.floor(offset / cell)),
    Math.min(count, Math.ceil((offset + extent) / cell)),
  ];
  const [firstRow, lastRow] = visible(part.y, part.height - top, matrix.rows);
  const [firstColumn, lastColumn] = visible(part.x, part.width - left, matrix.columns);
  const x = (column) => left + column * cell - part.x;
  const y = (row) => top + row * cell - part.y;

  surface.clip(left, top, part.width - left, part.height - top, () => {
    for (let row = firstRow; row < lastRow; row++) {
      for (let column = firstColumn; column < lastColumn; column++) {
        const weight = matrix.values[row * matrix.columns + column];
        const share = most > 0 ? weight / most : 0;
        surface.rectangle(x(column), y(row), cell - 1, cell - 1, colour(share));
        if (cell >= 30 && weight >= 0.005) {
          const text = weight.toFixed(2).replace(/^0/, "");
          const style = { fill: inkOn(share), size: 10, align: "center" };
          surface.text(x(column) + (cell - 1) / 2, y(row) + cell / 2, text, style);
        }
      }
    }
    const [row, column] = [cursor.query, cursor.key];
    const [wide, high] = [cell * matrix.columns - 1, cell * matrix.rows - 1];
    if (row !== undefined && column !== undefined) surface.frame(x(column) - 0.5, y(row) - 0.5, cell, cell, focus, 2);
    else if (row !== undefined) surface.frame(x(0), y(row) - 0.5, wide, cell, focus, 2);
    else if (column !== undefined) surface.frame(x(column) - 0.5, y(0), cell, high, focus, 2);
  });
  surface.clip(0, top, left, part.height - top, () => {
    for (let row = firstRow; row < lastRow; row++) {
      const bold = row === cursor.query;
      const text = shortened(shown(matrix.queries[row]), LABEL, WIDEST_LABEL);
      const fill = bold ? ink : faint;
      surface.text(left - 8, y(row) + cell / 2, text, { fill, size: LABEL, align: "right", bold });
    }
  });
  surface.clip(left - 8, 0, part.width - left + 8, top, () => {
    for (let column = firstColumn; column < lastColumn; column++) {
      const bold = column === cursor.key;
      const text = shortened(shown(matrix.keys[column]), LABEL, WIDEST_LABEL);
      const fill = bold ? ink : faint;
      surface.text(x(column) + cell / 2, top - 7, text, { fill, size: LABEL, angle: -55, bold });
    }
  });
}

/** The row and the column under a point of the window; a name alone has one of the two. */
function cellAt(matrix, layout, part, pointX, pointY) {
  // Names of columns lean to the right.
  const leaning = Math.max(0, layout.top - 7 - pointY) / Math.tan(SLANT);
  const column = Math.floor((pointX - leaning - layout.left + part.x) / layout.cell);
  const row = Math.floor((pointY - layout.top + part.y) / layout.cell);
  const cursor = {};
  if (pointY >= layout.top && row >= 0 && row < matrix.rows) cursor.query = row;
  if (pointX - leaning >= layout.left && column >= 0 && column < matrix.columns) cursor.key = column;
  return cursor;
}

/** Fill the stage with the map; `cursor` is pointed at, and `read(cursor)` is told, whenever that changes. */
function showMap(stage, matrix, most, cursor, read) {
  const layout = onPage(matrix);
  const canvas = document.createElement("canvas");
  const sizer = document.createElement("div");
  sizer.className = "sizer";
  sizer.style.width = `${layout.width}px`;
  sizer.style.height = `${layout.height}px`;
  sizer.append(canvas);
  stage.replaceChildren(sizer);
  fit(stage, layout.width, layout.height);

  const inSight = () => {
    const { scrollLeft: x, scrollTop: y, clientWidth: width, clientHeight: height } = stage;
    return { x, y, width, height };
  };
  const draw = () => {
    const part = inSight();
    drawMap(onScreen(canvas, part.width, part.height), matrix, layout, part, cursor, most);
  };
  const point = (next) => {
    if (next.query === cursor.query && next.key === cursor.key) return;
    cursor = next;
    draw();
    read(cursor);
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return cellAt(matrix, layout, inSight(), event.clientX - box.left, event.clientY - box.top);
  };
  stage.onscroll = () => requestAnimationFrame(draw);
  stage.onpointermove = stage.onclick = (event) => point(place(event)); // A finger does not move before it taps.
  stage.onpointerleave = () => point({});
  stage.onkeydown = (event) => {
    const step = !event.shiftKey && arrowOf(event);
    if (!step) return;
    event.preventDefault();
    const { query, key } = cursor;
    const next = { query: query ?? 0, key: key ?? 0 };
    if (query !== undefined && key !== undefined) {
      next.query = Math.max(0, Math.min(matrix.rows - 1, query + step[1]));
      next.key = Math.max(0, Math.min(matrix.columns - 1, key + step[0]));
    }
    const [left, top] = [next.key * layout.cell, next.query * layout.cell];
    stage.scrollLeft = Math.max(left + layout.cell + layout.left - stage.clientWidth, Math.min(stage.scrollLeft, left));
    stage.scrollTop = Math.max(top + layout.cell + layout.top - stage.clientHeight, Math.min(stage.scrollTop, top));
    point(next);
  };
  draw();
  read(cursor);
}

/** Give the stage the size of what is in it, or as much of the window as there is; scroll bars take their place. */
function fit(stage, width, height) {
  const most = Math.round(0.76 * innerHeight);
  const bar = 15;
  stage.style.height = `${Math.min(height + bar, most)}px`;
  stage.style.width = `${width + (height + bar > most ? bar : 1)}px`;
  stage.parentElement.classList.toggle("beside", width + BESIDE <= stage.parentElement.clientWidth);
}

/** A canvas of that many pixels of the page, sharp on every screen, as a surface. */
function onScreen(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) {
    [canvas.width, canvas.height] = [wide, high];
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return canvasSurface(context);
}
