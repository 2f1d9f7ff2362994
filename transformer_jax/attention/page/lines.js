"use strict";
// Attention as lines between keys (left) and queries (right): the line width is the weight.

const LINE_HEIGHT = 24;
const MAX_LINE_WIDTH = 9;
const MAX_LINES = 3000;
const MIN_LINE_WEIGHT = 0.01;

/** The lines to draw, weakest first: the strongest ones, or all lines of the focused token. */
function linesToDraw(matrix, focus) {
  const lines = [];
  const hasFocus = focus.query !== undefined || focus.key !== undefined;
  for (let query = 0; query < matrix.rows; query++) {
    for (let key = 0; key < matrix.columns; key++) {
      const weight = matrix.values[query * matrix.columns + key];
      const role = query === focus.query ? "from-query" : key === focus.key ? "to-key" : "other";
      const isDrawn = hasFocus ? role !== "other" : weight >= MIN_LINE_WEIGHT;
      if (isDrawn && weight > 0.001) lines.push({ query, key, weight, role });
    }
  }
  return lines.sort((a, b) => a.weight - b.weight).slice(-MAX_LINES);
}

/** Draw lines from x1 (keys) to x2 (queries), scrolled down by `offset` pixels. */
function drawLines(surface, lines, x1, x2, offset, height) {
  const colours = {
    other: cssColour("line"),
    "from-query": cssColour("from-query"),
    "to-key": cssColour("to-key"),
  };
  const y = (position) => position * LINE_HEIGHT + LINE_HEIGHT / 2 - offset;
  for (const { query, key, weight, role } of lines) {
    const [y1, y2] = [y(key), y(query)];
    if (Math.max(y1, y2) < 0 || Math.min(y1, y2) > height) continue;
    surface.curve(x1, y1, x2, y2, colours[role], Math.max(0.6, MAX_LINE_WIDTH * weight), 0.25 + 0.75 * weight);
  }
}

/** The positions of one token on both sides: in self-attention a token is a query and a key. */
function focusOfToken(kind, side, position, matrix) {
  if (kind === "cross") return { [side]: position };
  const shift = kind === "decoder" ? 1 : 0; // The decoder reads a token one step after predicting it.
  const focus =
    side === "query" ? { query: position, key: position + shift } : { query: position - shift, key: position };
  if (focus.key >= matrix.columns) delete focus.key;
  if (focus.query < 0) delete focus.query;
  return focus;
}

/** The side ("key" or "query") and the position of the token that has the keyboard focus, if any. */
function focusedToken() {
  const item = document.activeElement.closest("#stage li");
  return item && { side: item.parentElement.className, position: [...item.parentElement.children].indexOf(item) };
}

/** Give the keyboard focus to a token; positions beyond the ends are clamped. */
function focusToken(stage, side, position) {
  const { children } = stage.querySelector(`ol.${side}`);
  children[Math.max(0, Math.min(position, children.length - 1))].firstChild.focus();
}

/** A column of tokens; `onFocus(side, position)` is called for a focused or pointed token, `onBlur()` after it. */
function makeTokenColumn(side, tokens, label, onFocus, onBlur) {
  const list = document.createElement("ol");
  list.className = side;
  list.setAttribute("aria-label", label);
  list.append(...tokens.map((token, position) => {
    const item = document.createElement("li");
    const button = makeTokenButton(token);
    button.tabIndex = position === 0 ? 0 : -1; // Tab reaches one token per column, arrow keys reach the others.
    button.onpointerenter = () => onFocus(side, position);
    button.onfocus = () => {
      list.querySelector("[tabindex='0']").tabIndex = -1;
      button.tabIndex = 0;
      onFocus(side, position);
    };
    button.onblur = button.onpointerleave = onBlur;
    item.append(button);
    return item;
  }));
  return list;
}

/** Emphasize the focused token of a column and dim tokens that are hardly linked to it. */
function markTokens(list, side, lines, focus) {
  const linked = new Map(lines.map((line) => [line[side], line.weight]));
  const hasFocus = focus.key !== undefined || focus.query !== undefined;
  [...list.children].forEach((item, position) => {
    item.classList.toggle("focused", focus[side] === position);
    item.classList.toggle("dim", hasFocus && focus[side] !== position && !(linked.get(position) >= 0.05));
  });
}

/** Fill the stage with two columns of tokens and the lines between them; `onCursor(cursor)` as in `showMap`. */
function showLines(stage, matrix, kind, cursor, onCursor) {
  const focusedBefore = focusedToken();
  const canvas = document.createElement("canvas");
  const onFocus = (side, position) => setFocus(focusOfToken(kind, side, position, matrix));
  const onBlur = () => setFocus({});
  const keys = makeTokenColumn("key", matrix.keys, "Keys: tokens attended to", onFocus, onBlur);
  const queries = makeTokenColumn("query", matrix.queries, "Queries: tokens that attend", onFocus, onBlur);
  const middle = document.createElement("div");
  middle.className = "between";
  middle.append(canvas);
  const frame = document.createElement("div");
  frame.className = "frame";
  frame.append(keys, middle, queries);
  stage.replaceChildren(frame);
  resizeStage(stage, frame.clientWidth, Math.max(matrix.rows, matrix.columns) * LINE_HEIGHT);
  let lines;

  const draw = () => {
    const surface = prepareCanvas(canvas, middle.clientWidth, stage.clientHeight);
    drawLines(surface, lines, 2, middle.clientWidth - 2, stage.scrollTop, stage.clientHeight);
  };
  const setFocus = (focus) => {
    lines = linesToDraw(matrix, focus);
    markTokens(keys, "key", lines, focus);
    markTokens(queries, "query", lines, focus);
    draw();
    onCursor(focus);
  };
  stage.onscroll = () => requestAnimationFrame(draw);
  stage.onkeydown = (event) => {
    const arrow = !event.shiftKey && arrowDirection(event);
    const focused = focusedToken();
    if (!arrow || !focused) return;
    event.preventDefault();
    const [right, down] = arrow;
    const side = right ? { key: "query", query: "key" }[focused.side] : focused.side;
    focusToken(stage, side, focused.position + down);
  };
  setFocus(cursor);
  // Replacing the buttons removed the keyboard focus.
  if (focusedBefore) focusToken(stage, focusedBefore.side, focusedBefore.position);
}

/** A token that can be pointed at and focused, displayed in its own direction. */
function makeTokenButton(token) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "token";
  const text = document.createElement("bdi");
  text.textContent = visibleToken(token);
  button.append(text);
  button.title = visibleToken(token);
  return button;
}
