"use strict";
// The page: reads the data, shows the state and updates it when the user acts.

const index = JSON.parse(element("index").textContent);
let state;
let sentence; // The current sentence. Only this one is parsed; the others remain text in the page.
let cursor = {}; // {query, key}: the row and column at the pointer or focus; either may be missing. Heads share it.

const KIND_TITLES = {
  encoder: "Encoder self-attention",
  decoder: "Decoder self-attention",
  cross: "Cross-attention",
};
const MAP_CAPTIONS = {
  encoder: "Row: the source token that attends. Column: the source token attended to.",
  decoder: "Row: the token being predicted. Column: the earlier token attended to.",
  cross: "Row: the token being predicted. Column: the source token attended to.",
};
const LINES_CAPTION =
  "Left: the tokens attended to. Right: the tokens that attend. Line width: the weight. " +
  `At most ${MAX_LINES} lines are drawn, for weights of at least ${MIN_LINE_WEIGHT}.`;
const STEPS_CAPTION =
  "The attention of the decoder when it predicted the outlined token, and the most probable tokens at this step.";

function element(id) {
  return document.getElementById(id);
}

/** The data of a sentence; its weights are decoded on first use. */
function readSentence(position) {
  const data = JSON.parse(element(`sentence-${position}`).textContent);
  for (const kind of KINDS) {
    const { queries, keys } = axisTokens(data, kind);
    Object.assign(data[kind], { rows: queries.length, columns: keys.length });
  }
  return data;
}

/** Change some values of the state, show it and store it in the address. */
function updateState(changes) {
  showState({ ...state, ...changes });
  try {
    // In the frame of a notebook, a fragment alone would be resolved against the address of the notebook.
    history.replaceState(null, "", location.href.split("#")[0] + stateToFragment(state, index.sentences));
  } catch {
    // Safari allows 100 changes per 30 seconds. The view is shown even if the address cannot be changed.
  }
}

/** Show a state; parts of the page that do not depend on the changed values stay unchanged. */
function showState(next) {
  const before = state;
  if (next.sentence !== before?.sentence) sentence = readSentence(next.sentence);
  state = clampState(next, sentence);
  const differs = (name) => JSON.stringify(before[name]) !== JSON.stringify(state[name]);
  const isChanged = (...names) => !before || names.some(differs);
  if (isChanged("sentence")) showSentence();
  if (isChanged("sentence", "scale")) {
    showOverview(element("overview"), sentence, fullColourWeight, selectHead, moveHead);
  }
  markOverview(element("overview"), state);
  const selected = document.querySelector(".head[tabindex='0']");
  if (isChanged("sentence", "kind", "layer", "head")) scrollIntoBox(selected.closest("nav"), selected);
  showControls();
  showTitle();
  if (isChanged("sentence", "kind", "view", "tokens")) {
    element("stage").scrollTo(0, 0);
    cursor = {};
  }
  const viewNames = ["sentence", "kind", "layer", "head", "view", "tokens", "combine", "chosen", "step", "scale"];
  if (isChanged(...viewNames)) showView();
  if (isChanged("sentence", "kind")) requestAnimationFrame(() => setTimeout(showTable)); // After the view is painted.
  else if (isChanged("sort")) showTable();
  else markSummary(element("summary"), state);
}

/** The weight at the end of the colour scale. */
function fullColourWeight(weights) {
  return state.scale === "one" ? 1 : weights.reduce((largest, weight) => Math.max(largest, weight), 0);
}

function showSentence() {
  element("sentence").value = state.sentence;
  setAvailable(element("previous-sentence"), state.sentence > 0);
  setAvailable(element("next-sentence"), state.sentence < index.sentences.length - 1);
  for (const name of ["source", "translation"]) {
    const text = element(name);
    text.textContent = sentence[name] || "(empty)";
    text.dir = textDirection(sentence[name]);
  }
  document.title = `Attention, line ${index.sentences[state.sentence].number}`;
}

/** Set every control to the state. */
function showControls() {
  for (const input of document.querySelectorAll(".toolbar input[type=radio]")) {
    input.checked = state[input.name] === input.value;
  }
  for (const input of document.getElementsByName("tokens")) {
    input.disabled = !(sentence.source_words.length && sentence.target_words.length);
  }
  element("combination").hidden = state.combine === "one";
}

/** Show the title and the caption of the view. */
function showTitle() {
  const head = `layer ${state.layer}, head ${state.head}`;
  const method = { mean: "mean", max: "maximum" }[state.combine];
  const heads = state.combine === "one" ? head : `${method} of ${state.chosen.length} heads`;
  element("title").textContent = `${state.view === "steps" ? "Decoding step" : KIND_TITLES[state.kind]}, ${heads}`;
  const captions = { map: MAP_CAPTIONS[state.kind], lines: LINES_CAPTION, steps: STEPS_CAPTION };
  const warning = state.combine === "max" ? " Rows of a maximum may sum to more than 1." : "";
  element("caption").textContent = captions[state.view] + warning;
}

function showView() {
  const stage = element("stage");
  stage.className = state.view;
  stage.onscroll = stage.onpointermove = stage.onpointerleave = stage.onclick = stage.onkeydown = null;
  stage.tabIndex = state.view === "map" ? 0 : -1;
  // Screen readers pass arrow keys only to elements with the role "application".
  stage.setAttribute("role", state.view === "map" ? "application" : "group");
  stage.setAttribute("aria-roledescription", { map: "heat map", lines: "lines", steps: "step" }[state.view]);
  element("readout").hidden = state.view === "steps";
  element("legend").hidden = state.view === "lines";
  if (state.view === "steps") {
    const step = stepData(state, sentence);
    const maxWeight = fullColourWeight([...step.source.weights, ...step.prefix.weights]);
    showStep(stage, state, sentence, step, maxWeight, (step) => updateState({ step }));
    return showLegend(maxWeight);
  }
  const matrix = selectedMatrix(state, sentence);
  const maxWeight = fullColourWeight(matrix.values);
  const onCursor = (next) => {
    cursor = next;
    showReadout(matrix, cursor);
  };
  if (state.view === "map") showMap(stage, matrix, maxWeight, cursor, onCursor);
  else showLines(stage, matrix, state.kind, cursor, onCursor);
  return showLegend(maxWeight);
}

/** Describe the cursor in words: the weight of the cell, the strongest keys of the row and queries of the column. */
function showReadout(matrix, { query, key }) {
  const parts = [];
  const tokenName = (tokens, position) => {
    const text = document.createElement("bdi");
    text.textContent = visibleToken(tokens[position]);
    return text;
  };
  const makeParagraph = (...content) => {
    const paragraph = document.createElement("p");
    paragraph.append(...content);
    return paragraph;
  };
  const makeRanking = (heading, values, tokens) => {
    const strongest = largestValues(values, 5);
    const section = document.createElement("section");
    section.append(
      heading,
      makeBars(strongest.map(([weight, position]) => ({ token: tokens[position], probability: weight }))),
    );
    return section;
  };
  if (query !== undefined && key !== undefined && state.view === "map") {
    const weight = document.createElement("strong");
    weight.id = "weight";
    weight.textContent = matrix.values[query * matrix.columns + key].toFixed(5);
    const [queryName, keyName] = [tokenName(matrix.queries, query), tokenName(matrix.keys, key)];
    parts.push(makeParagraph(queryName, " attends to ", keyName, " with weight ", weight));
  }
  if (query !== undefined) {
    const heading = makeParagraph(tokenName(matrix.queries, query), " attends to");
    parts.push(makeRanking(heading, matrixRow(matrix, query), matrix.keys));
  }
  if (key !== undefined) {
    const heading = makeParagraph(tokenName(matrix.keys, key), " is attended to by");
    parts.push(makeRanking(heading, matrixColumn(matrix, key), matrix.queries));
  }
  if (!parts.length) {
    const mapHint = "Point at a cell or a label, or use the arrow keys.";
    parts.push(makeNote(state.view === "map" ? mapHint : "Point at a token or select it with the keyboard."));
  }
  element("readout").replaceChildren(...parts);
}

function showLegend(maxWeight) {
  const canvas = element("ramp");
  [canvas.width, canvas.height] = [256, 1];
  const context = canvas.getContext("2d");
  const { colour } = palette();
  for (let step = 0; step < 256; step++) {
    context.fillStyle = colour(step / 255);
    context.fillRect(step, 0, 1, 1);
  }
  element("legend-max").textContent = maxWeight === 1 ? "1" : maxWeight.toFixed(3);
}

function showTable() {
  const table = element("summary");
  showSummary(table, headSummaries(sentence, state.kind, index.ablation), state.sort, index.ablation, {
    onSort: (name) => updateState({ sort: state.sort === `-${name}` ? name : `-${name}` }),
    onSelect: (layer, head) => updateState({ layer, head, combine: "one" }),
  });
  markSummary(table, state);
}

/** Handle a click in the grid: select a head, or add it to or remove it from the combination. */
function selectHead(kind, layer, head, isExtending) {
  if (state.combine === "one" && !isExtending) return updateState({ kind, layer, head });
  const isClicked = ([l, h]) => l === layer && h === head;
  const chosen = kind !== state.kind ? [] : selectedHeads(state);
  const others = chosen.filter((other) => !isClicked(other));
  const isRemoved = others.length < chosen.length && others.length > 0;
  const combine = state.combine === "one" ? "mean" : state.combine;
  return updateState({ kind, layer, head, combine, chosen: isRemoved ? others : [...others, [layer, head]] });
}

/** The direction of an arrow key as [right, down]; undefined for other keys and for shortcuts of the browser. */
function arrowDirection({ key, ctrlKey, altKey, metaKey }) {
  if (ctrlKey || altKey || metaKey) return undefined;
  return { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
}

/** Select the neighbouring head. */
function moveHead(right, down) {
  const next = neighbourState(state, sentence, right, down);
  updateState({ ...next, chosen: next.kind === state.kind ? state.chosen : [] });
}

/** Connect the controls and show the state of the address. */
function initialize() {
  const options = index.sentences.map(({ number, source }, position) => new Option(`${number}  ${source}`, position));
  element("sentence").append(...options);
  element("left-out").textContent = index.left_out;
  const selectSentence = (position) => position in index.sentences && updateState({ sentence: position, step: 0 });
  element("sentence").onchange = (event) => selectSentence(Number(event.target.value));
  element("previous-sentence").onclick = () => selectSentence(state.sentence - 1);
  element("next-sentence").onclick = () => selectSentence(state.sentence + 1);
  element("this-layer").onclick = () => updateState({ chosen: listHeads(sentence[state.kind], [state.layer]) });
  element("all-layers").onclick = () => updateState({ chosen: listHeads(sentence[state.kind]) });
  element("png").onclick = downloadPng;
  element("svg").onclick = downloadSvg;
  element("csv").onclick = () => downloadCsv(viewTable(), fileName("csv"));
  element("summary-csv").onclick = () => downloadCsv(summaryTable(), `${sentence.number}.${state.kind}.heads.csv`);
  element("theme").onclick = () => {
    document.documentElement.dataset.theme = currentTheme() === "dark" ? "light" : "dark";
    repaint();
  };
  for (const input of document.querySelectorAll(".toolbar input[type=radio]")) {
    input.onchange = () => {
      // Steps show heads of the decoder, so they replace a head of the encoder.
      const kind = input.value === "steps" && state.kind === "encoder" ? { kind: "cross" } : {};
      const chosen = input.name === "kind" ? { chosen: [] } : {};
      updateState({ [input.name]: input.value, ...kind, ...chosen });
    };
  }
  document.addEventListener("keydown", (event) => {
    const arrow = event.shiftKey && arrowDirection(event);
    if (!arrow || event.target.closest("input[type=range], select")) return;
    event.preventDefault();
    moveHead(...arrow);
  });
  window.addEventListener("hashchange", () => showState(fragmentToState(location.hash, index.sentences)));
  window.addEventListener("resize", showView);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  showState(fragmentToState(location.hash, index.sentences));
}

/** Redraw the overview and the view in the colours of the current theme. */
function repaint() {
  showOverview(element("overview"), sentence, fullColourWeight, selectHead, moveHead);
  markOverview(element("overview"), state);
  showView();
}

initialize();
