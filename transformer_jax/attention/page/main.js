"use strict";
// The page: reads the data, shows the state, and changes the state when somebody does something.

const index = JSON.parse(element("index").textContent);
let state;
let sentence; // That of the state. Only one is in memory; the others are text in the page.
let pointed = {}; // {query, key} of the matrix that is shown; either may be missing. Heads of one kind share it.

function element(id) {
  return document.getElementById(id);
}

/** A sentence's data; its weights stay text until they are asked for. */
function readSentence(place) {
  const read = JSON.parse(element(`sentence-${place}`).textContent);
  for (const kind of KINDS) {
    const { queries, keys } = sidesOf(read, kind);
    Object.assign(read[kind], { rows: queries.length, columns: keys.length });
  }
  return read;
}

/** Show another view, and keep it in the address. */
function change(changes) {
  show({ ...state, ...changes });
  try {
    // The whole address: in a notebook's frame what is only its end would be taken for the notebook's.
    history.replaceState(null, "", location.href.split("#")[0] + toAddress(state, index.sentences));
  } catch {
    // Safari allows a hundred changes in half a minute. The view is shown all the same.
  }
}

/** Bring the page to a state; what is the same as before stays as it is. */
function show(next) {
  const before = state;
  if (next.sentence !== before?.sentence) sentence = readSentence(next.sentence);
  state = within(next, sentence);
  const differs = (name) => JSON.stringify(before[name]) !== JSON.stringify(state[name]);
  const isNew = (...names) => !before || names.some(differs);
  if (isNew("sentence")) showSentence();
  if (isNew("sentence", "scale")) showOverview(element("overview"), sentence, mostOf, chooseHead, move);
  markOverview(element("overview"), state);
  const current = document.querySelector(".head[tabindex='0']");
  if (isNew("sentence", "kind", "layer", "head")) reveal(current.closest("nav"), current);
  showControls();
  if (isNew("sentence", "kind", "view", "tokens")) {
    element("stage").scrollTo(0, 0);
    pointed = {};
  }
  if (isNew("sentence", "kind", "layer", "head", "view", "tokens", "combine", "chosen", "step", "scale")) showView();
  if (isNew("sentence", "kind")) requestAnimationFrame(() => setTimeout(showTable)); // The picture comes first.
  else if (isNew("sort")) showTable();
  else markSummary(element("summary"), state);
}

/** The weight that has the full colour. */
function mostOf(weights) {
  return state.scale === "one" ? 1 : weights.reduce((most, weight) => Math.max(most, weight), 0);
}

function showSentence() {
  const picker = element("sentence");
  picker.value = state.sentence;
  allow(element("previous-sentence"), state.sentence > 0);
  allow(element("next-sentence"), state.sentence < index.sentences.length - 1);
  for (const name of ["source", "translation"]) {
    const place = element(name);
    place.textContent = sentence[name] || "(empty)";
    place.dir = directionOf(sentence[name]);
  }
  document.title = `${index.sentences[state.sentence].number}: attention`;
}

/** Bring every switch to the state. */
function showControls() {
  for (const input of document.querySelectorAll(".toolbar input[type=radio]")) {
    input.checked = state[input.name] === input.value;
  }
  for (const input of document.getElementsByName("tokens")) {
    input.disabled = !(sentence.source_words.length && sentence.target_words.length);
  }
  const steps = state.view === "steps";
  element("which").hidden = state.combine === "one";
  const one = `layer ${state.layer}, head ${state.head}`;
  const heads = state.combine === "one" ? one : `${state.combine} of ${state.chosen.length} heads`;
  const kind = {
    encoder: "Encoder self-attention",
    decoder: "Decoder self-attention",
    cross: "Cross-attention",
  }[state.kind];
  element("title").textContent = steps ? `Step by step, ${heads}` : `${kind}, ${heads}`;
  const what = {
    encoder: "Row: the source token that reads. Column: the source token that is read.",
    decoder: "Row: the token being predicted. Column: the earlier token that is read.",
    cross: "Row: the token being predicted. Column: the source token that is read.",
  }[state.kind];
  const lines =
    "Left: what is read. Right: what reads it. " +
    `Thickness: the weight, from ${LEAST_WEIGHT} on; at most the ${MOST_LINES} strongest.`;
  const stepping = "What the decoder read before it wrote the outlined token, and how likely that token was.";
  const warning = state.combine === "max" ? " Rows of a maximum need not sum to 1." : "";
  element("caption").textContent = { map: what, lines, steps: stepping }[state.view] + warning;
}

function showView() {
  const stage = element("stage");
  stage.className = state.view;
  stage.onscroll = stage.onpointermove = stage.onpointerleave = stage.onclick = stage.onkeydown = null;
  stage.tabIndex = state.view === "map" ? 0 : -1;
  // A screen reader hands arrow keys over to an application alone.
  stage.setAttribute("role", state.view === "map" ? "application" : "group");
  stage.setAttribute("aria-roledescription", { map: "heat map", lines: "lines", steps: "step" }[state.view]);
  element("readout").hidden = state.view === "steps";
  element("legend").hidden = state.view === "lines";
  if (state.view === "steps") {
    const step = stepOf(state, sentence);
    const most = mostOf([...step.source.weights, ...step.prefix.weights]);
    showSteps(stage, state, sentence, step, most, (step) => change({ step }));
    return showLegend(most);
  }
  const matrix = matrixOf(state, sentence);
  const most = mostOf(matrix.values);
  const read = (cursor) => {
    pointed = cursor;
    readOut(matrix, cursor);
  };
  if (state.view === "map") showMap(stage, matrix, most, pointed, read);
  else showLines(stage, matrix, state.kind, pointed, read);
  return showLegend(most);
}

/** Say in words what is pointed at: the exact weight, what the row reads, what reads the column. */
function readOut(matrix, { query, key }) {
  const parts = [];
  const name = (tokens, place) => {
    const text = document.createElement("bdi");
    text.textContent = shown(tokens[place]);
    return text;
  };
  const line = (...words) => {
    const paragraph = document.createElement("p");
    paragraph.append(...words);
    return paragraph;
  };
  const strongest = (values, tokens) =>
    bars(largest(values, 5).map(([weight, place]) => ({ token: tokens[place], probability: weight })));
  const block = (heading, list) => {
    const section = document.createElement("section");
    section.append(heading, list);
    return section;
  };
  if (query !== undefined && key !== undefined && state.view === "map") {
    const weight = document.createElement("strong");
    weight.id = "weight";
    weight.textContent = matrix.values[query * matrix.columns + key].toFixed(5);
    parts.push(line(name(matrix.queries, query), " reads ", name(matrix.keys, key), " with weight ", weight));
  }
  if (query !== undefined) {
    parts.push(block(line(name(matrix.queries, query), " attends to"), strongest(rowOf(matrix, query), matrix.keys)));
  }
  if (key !== undefined) {
    const heading = line(name(matrix.keys, key), " is attended to by");
    parts.push(block(heading, strongest(columnOf(matrix, key), matrix.queries)));
  }
  if (!parts.length) {
    const inMap = "Point at a cell or a token, or use the arrow keys.";
    parts.push(note(state.view === "map" ? inMap : "Point at a token, or focus it."));
  }
  element("readout").replaceChildren(...parts);
}

function showLegend(most) {
  const canvas = element("ramp");
  [canvas.width, canvas.height] = [256, 1];
  const context = canvas.getContext("2d");
  const { colour } = palette();
  for (let step = 0; step < 256; step++) {
    context.fillStyle = colour(step / 255);
    context.fillRect(step, 0, 1, 1);
  }
  element("most").textContent = most === 1 ? "1" : most.toFixed(3);
}

function showTable() {
  const table = element("summary");
  showSummary(table, summariesOf(sentence, state.kind, index.ablation), state.sort, index.ablation, {
    sortBy: (name) => change({ sort: state.sort === `-${name}` ? name : `-${name}` }),
    choose: (layer, head) => change({ layer, head, combine: "one" }),
  });
  markSummary(table, state);
}

/** A click in the grid: enlarge a head, or take it into the combination or out of it. */
function chooseHead(kind, layer, head, extend) {
  const changes = { kind, layer, head };
  if (state.combine === "one" && !extend) return change(changes);
  const same = ([l, h]) => l === layer && h === head;
  const chosen = kind !== state.kind ? [] : state.combine === "one" ? [[state.layer, state.head]] : state.chosen;
  const others = chosen.filter((one) => !same(one));
  const next = others.length < chosen.length && others.length ? others : [...others, [layer, head]];
  return change({ ...changes, combine: state.combine === "one" ? "mean" : state.combine, chosen: next });
}

/** Where an arrow key leads, as [across, down]; undefined for other keys, and where the browser has a use for it. */
function arrowOf({ key, ctrlKey, altKey, metaKey }) {
  if (ctrlKey || altKey || metaKey) return undefined;
  return { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
}

/** The neighbouring head. */
function move(across, down) {
  const next = moved(state, sentence, across, down);
  change({ ...next, chosen: next.kind === state.kind ? state.chosen : [] });
}

// What can be done

function begin() {
  const options = index.sentences.map(({ number, source }, place) => new Option(`${number}  ${source}`, place));
  element("sentence").append(...options);
  element("left-out").textContent = index.left_out;
  const go = (place) => place in index.sentences && change({ sentence: place, step: 0 });
  element("sentence").onchange = (event) => go(Number(event.target.value));
  element("previous-sentence").onclick = () => go(state.sentence - 1);
  element("next-sentence").onclick = () => go(state.sentence + 1);
  element("this-layer").onclick = () => change({ chosen: headsOf(sentence[state.kind], [state.layer]) });
  element("all-layers").onclick = () => change({ chosen: headsOf(sentence[state.kind]) });
  element("png").onclick = savePng;
  element("svg").onclick = saveSvg;
  element("csv").onclick = () => saveCsv(numbers(), nameOf("csv"));
  element("summary-csv").onclick = () => saveCsv(summaryNumbers(), `${sentence.number}.${state.kind}.heads.csv`);
  element("theme").onclick = () => {
    document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
    repaint();
  };
  for (const input of document.querySelectorAll(".toolbar input[type=radio]")) {
    input.onchange = () => {
      // Step by step, a head is one of the decoder's.
      const kind = input.value === "steps" && state.kind === "encoder" ? { kind: "cross" } : {};
      const chosen = input.name === "kind" ? { chosen: [] } : {};
      change({ [input.name]: input.value, ...kind, ...chosen });
    };
  }
  document.addEventListener("keydown", (event) => {
    const step = event.shiftKey && arrowOf(event);
    if (!step || event.target.closest("input[type=range], select")) return;
    event.preventDefault();
    move(...step);
  });
  window.addEventListener("hashchange", () => show(fromAddress(location.hash, index.sentences)));
  window.addEventListener("resize", showView);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  show(fromAddress(location.hash, index.sentences));
}

/** Once more, in the colours of another theme. */
function repaint() {
  showOverview(element("overview"), sentence, mostOf, chooseHead, move);
  markOverview(element("overview"), state);
  showView();
}

begin();
