"use strict";
// The state of the page: one object, which is also stored in the fragment of the page's address.

const KINDS = ["encoder", "decoder", "cross"];
const VIEWS = ["map", "lines", "steps"];
const COMBINATIONS = ["one", "mean", "max"];

/** The state without a fragment: the last layer of cross-attention. `chosen` lists the combined heads. */
const DEFAULT_STATE = {
  sentence: 0, kind: "cross", layer: Infinity, head: 0, view: "map", tokens: "pieces", combine: "one", chosen: [],
  step: 0, scale: "one", sort: "",
};

/** The state as a fragment: everything that differs from the default, with the line number of the sentence. */
function stateToFragment(state, sentences) {
  const chosen = state.chosen.map((head) => head.join(".")).join("_");
  const values = { ...state, chosen, sentence: sentences[state.sentence].number };
  const defaults = { ...DEFAULT_STATE, chosen: "", sentence: sentences[0].number };
  const names = Object.keys(DEFAULT_STATE).filter((name) => values[name] !== defaults[name]);
  return `#${names.map((name) => `${name}=${values[name]}`).join("&")}`;
}

/** The state of a fragment; missing and invalid values are replaced by the default. */
function fragmentToState(fragment, sentences) {
  const parameters = new URLSearchParams(fragment.replace(/^#/, ""));
  const oneOf = (name, values) => (values.includes(parameters.get(name)) ? parameters.get(name) : DEFAULT_STATE[name]);
  const number = (name) => {
    const value = parameters.get(name) ?? "";
    return /^\d{1,6}$/.test(value) ? Number(value) : DEFAULT_STATE[name];
  };
  const chosen = (parameters.get("chosen") ?? "").split("_").filter((head) => /^\d{1,4}\.\d{1,4}$/.test(head));
  const isSentence = ({ number }) => String(number) === parameters.get("sentence");
  return {
    sentence: Math.max(0, sentences.findIndex(isSentence)),
    kind: oneOf("kind", KINDS),
    layer: number("layer"),
    head: number("head"),
    view: oneOf("view", VIEWS),
    tokens: oneOf("tokens", ["pieces", "words"]),
    combine: oneOf("combine", COMBINATIONS),
    chosen: chosen.map((head) => head.split(".").map(Number)),
    step: number("step"),
    scale: oneOf("scale", ["one", "max"]),
    sort: /^-?[a-z]+$/.test(parameters.get("sort") ?? "") ? parameters.get("sort") : DEFAULT_STATE.sort,
  };
}

/** The state with every value limited to what the sentence has. */
function clampState(state, sentence) {
  const { layers, heads } = sentence[state.kind];
  const clamp = (value, count) => Math.max(0, Math.min(value, count - 1));
  const layer = clamp(state.layer, layers);
  const chosen = state.chosen.filter(([l, h]) => l < layers && h < heads);
  return {
    ...state,
    layer,
    head: clamp(state.head, heads),
    view: state.view === "steps" && state.kind === "encoder" ? "map" : state.view, // The encoder has no steps.
    step: clamp(state.step, sentence.target_tokens.length),
    tokens: sentence.source_words.length && sentence.target_words.length ? state.tokens : "pieces",
    chosen: state.combine === "one" ? [] : chosen.length ? chosen : listHeads({ layers, heads }, [layer]),
  };
}

/** The heads of a kind as [layer, head]; default: all layers. */
function listHeads({ layers, heads }, inLayers = [...Array(layers).keys()]) {
  return inLayers.flatMap((layer) => Array.from({ length: heads }, (_, head) => [layer, head]));
}

/** The state after moving to a neighbouring head or layer; beyond the first or last layer follows the next kind. */
function neighbourState(state, sentence, right, down) {
  const head = Math.max(0, Math.min(state.head + right, sentence[state.kind].heads - 1));
  const layer = state.layer + down;
  if (layer >= 0 && layer < sentence[state.kind].layers) return { ...state, head, layer };
  const kind = KINDS[KINDS.indexOf(state.kind) + down];
  return kind ? { ...state, kind, head, layer: down < 0 ? sentence[kind].layers - 1 : 0 } : { ...state, head };
}

/** The selected head or the combined heads, as [layer, head]. */
const selectedHeads = (state) => (state.combine === "one" ? [[state.layer, state.head]] : state.chosen);

/** The weights of the selected heads, with the names of rows and columns. */
function selectedMatrix(state, sentence) {
  const heads = decodedHeads(sentence, state.kind);
  const matrices = selectedHeads(state).map(([layer, head]) => heads.head(layer, head));
  const { queries, keys, queryWords, keyWords, queryTexts, keyTexts } = axisTokens(sentence, state.kind);
  if (state.tokens === "pieces") return { ...combineHeads(matrices, state.combine), queries, keys };
  const [queryGroups, keyGroups] = [groupByWord(queryWords), groupByWord(keyWords)];
  return {
    // Words are merged first: a sum of maxima over heads would not be a weight.
    ...combineHeads(matrices.map((matrix) => mergeGroups(matrix, queryGroups, keyGroups)), state.combine),
    queries: groupNames(queryGroups, queries, queryWords, queryTexts),
    keys: groupNames(keyGroups, keys, keyWords, keyTexts),
  };
}

/** The name of each group: the text of its word, or its token. */
function groupNames(groups, tokens, words, texts) {
  return groups.map(([first]) => texts[words[first]] ?? tokens[first]);
}

/** The tokens of rows and columns of a kind, the word number of each token, and the texts of the words. */
function axisTokens(sentence, kind) {
  const source = [sentence.source_tokens, sentence.source_words, sentence.source_texts];
  const predicted = [sentence.target_tokens, sentence.target_words, sentence.target_texts];
  // The decoder reads the target shifted by one position, after [SOS], which belongs to no word.
  const read = [sentence.target_inputs, [-1, ...sentence.target_words.slice(0, -1)], sentence.target_texts];
  const axes = { encoder: [source, source], decoder: [predicted, read], cross: [predicted, source] }[kind];
  const [[queries, queryWords, queryTexts], [keys, keyWords, keyTexts]] = axes;
  return { queries, queryWords, queryTexts, keys, keyWords, keyTexts };
}

/** The heads of a kind, decoded on first use and cached in their sentence. */
function decodedHeads(sentence, kind) {
  sentence.decoded ??= {};
  sentence.decoded[kind] ??= decodeHeads(sentence[kind]);
  return sentence.decoded[kind];
}
