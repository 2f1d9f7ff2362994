"use strict";
// Lines between what is read (left) and what reads it (right): the thickness is the weight.

const LINE_HEIGHT = 24;
const THICKEST = 9;
const MOST_LINES = 3000;
const LEAST_WEIGHT = 0.01;

/** The lines to draw, weakest first: the strongest of all, or all of a token that is focused on. */
function linesOf(matrix, focus) {
  const lines = [];
  for (let query = 0; query < matrix.rows; query++) {
    for (let key = 0; key < matrix.columns; key++) {
      const weight = matrix.values[query * matrix.columns + key];
      const role = query === focus.query ? "reads" : key === focus.key ? "read" : "other";
      const wanted = focus.query === undefined && focus.key === undefined ? weight >= LEAST_WEIGHT : role !== "other";
      if (wanted && weight > 0.001) lines.push({ query, key, weight, role });
    }
  }
  return lines.sort((a, b) => a.weight - b.weight).slice(-MOST_LINES);
}

/** Draw lines from x1 (keys) to x2 (queries); `offset` pixels are scrolled away. */
function drawLines(surface, lines, x1, x2, offset, height) {
  const colours = { other: named("line"), reads: named("reads"), read: named("read") };
  const y = (place) => place * LINE_HEIGHT + LINE_HEIGHT / 2 - offset;
  for (const { query, key, weight, role } of lines) {
    const [from, to] = [y(key), y(query)];
    if (Math.max(from, to) < 0 || Math.min(from, to) > height) continue;
    surface.curve(x1, from, x2, to, colours[role], Math.max(0.6, THICKEST * weight), 0.25 + 0.75 * weight);
  }
}

/** The same token on the other side: in self-attention it reads and is read. */
function bothSides(kind, side, index, matrix) {
  if (kind === "cross") return { [side]: index };
  const step = kind === "decoder" ? 1 : 0; // The decoder reads a token one step after it is predicted.
  const found = side === "query" ? { query: index, key: index + step } : { query: index - step, key: index };
  if (found.key >= matrix.columns) delete found.key;
  if (found.query < 0) delete found.query;
  return found;
}

/** Fill the stage with two columns of tokens and the lines between them; `pointed` and `read` are those of the map. */
function showLines(stage, matrix, kind, pointed, read) {
  const focused = () => {
    const item = document.activeElement.closest("#stage li");
    return item && { side: item.parentElement.className, place: [...item.parentElement.children].indexOf(item) };
  };
  const focusToken = (side, place) => {
    const { children } = stage.querySelector(`ol.${side}`);
    children[Math.max(0, Math.min(place, children.length - 1))].firstChild.focus();
  };
  const before = focused(); // It keeps the focus, although its button is made anew.
  const canvas = document.createElement("canvas");
  const column = (side, tokens, title) => {
    const list = document.createElement("ol");
    list.className = side;
    list.setAttribute("aria-label", title);
    list.append(...tokens.map((token, index) => {
      const item = document.createElement("li");
      const button = tokenButton(token);
      button.tabIndex = index === 0 ? 0 : -1; // Tab reaches one token of a column, arrow keys lead to the others.
      button.onpointerenter = () => focusOn(bothSides(kind, side, index, matrix));
      button.onfocus = () => {
        list.querySelector("[tabindex='0']").tabIndex = -1;
        button.tabIndex = 0;
        button.onpointerenter();
      };
      button.onblur = button.onpointerleave = () => focusOn({});
      item.append(button);
      return item;
    }));
    return list;
  };
  const keys = column("key", matrix.keys, "What is read");
  const queries = column("query", matrix.queries, "What reads");
  const middle = document.createElement("div");
  middle.className = "between";
  middle.append(canvas);
  const frame = document.createElement("div");
  frame.className = "frame";
  frame.append(keys, middle, queries);
  stage.replaceChildren(frame);
  fit(stage, frame.clientWidth, Math.max(matrix.rows, matrix.columns) * LINE_HEIGHT);
  let lines;

  const draw = () => {
    const surface = onScreen(canvas, middle.clientWidth, stage.clientHeight);
    drawLines(surface, lines, 2, middle.clientWidth - 2, stage.scrollTop, stage.clientHeight);
  };
  const focusOn = (focus) => {
    lines = linesOf(matrix, focus);
    for (const [side, list] of [["key", keys], ["query", queries]]) {
      const linked = new Map(lines.map((line) => [line[side], line.weight]));
      const any = focus.key !== undefined || focus.query !== undefined;
      [...list.children].forEach((item, index) => {
        item.classList.toggle("focused", focus[side] === index);
        item.classList.toggle("dim", any && focus[side] !== index && !(linked.get(index) >= 0.05));
      });
    }
    draw();
    read(focus);
  };
  stage.onscroll = () => requestAnimationFrame(draw);
  stage.onkeydown = (event) => {
    const step = !event.shiftKey && arrowOf(event);
    const here = focused();
    if (!step || !here) return;
    event.preventDefault();
    const [across, down] = step;
    const side = across ? { key: "query", query: "key" }[here.side] : here.side;
    focusToken(side, here.place + down);
  };
  focusOn(pointed);
  if (before) focusToken(before.side, before.place);
}

/** A token that can be pointed at and focused, shown in its own direction. */
function tokenButton(token) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "token";
  const text = document.createElement("bdi");
  text.textContent = shown(token);
  button.append(text);
  button.title = shown(token);
  return button;
}
