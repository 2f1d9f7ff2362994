"use strict";
// What is shown: one object, the same that the address after "#" spells out.

const KINDS = ["encoder", "decoder", "cross"];
const VIEWS = ["map", "lines", "steps"];
const COMBINATIONS = ["one", "mean", "max"];

/** Where a page without an address begins: the last layer of cross-attention. */
const START = {
  sentence: 0, kind: "cross", layer: Infinity, head: 0, view: "map", tokens: "pieces", combine: "one", chosen: [],
  step: 0, scale: "one", sort: "",
};

/** The view as text: only what differs from the beginning. A sentence's place becomes the number of its line. */
function toAddress(state, sentences) {
  const chosen = state.chosen.map((one) => one.join(".")).join("_");
  const written = { ...state, chosen, sentence: sentences[state.sentence].number };
  const first = { ...START, chosen: "", sentence: sentences[0].number };
  const names = Object.keys(START).filter((name) => written[name] !== first[name]);
  return `#${names.map((name) => `${name}=${written[name]}`).join("&")}`;
}

/** The view that a text spells; what it does not say, or says wrongly, is as at the beginning. */
function fromAddress(address, sentences) {
  const given = new URLSearchParams(address.replace(/^#/, ""));
  const oneOf = (name, values) => (values.includes(given.get(name)) ? given.get(name) : START[name]);
  const number = (name) => (/^\d{1,6}$/.test(given.get(name) ?? "") ? Number(given.get(name)) : START[name]);
  const chosen = (given.get("chosen") ?? "").split("_").filter((one) => /^\d{1,4}\.\d{1,4}$/.test(one));
  return {
    sentence: Math.max(0, sentences.findIndex((one) => String(one.number) === given.get("sentence"))),
    kind: oneOf("kind", KINDS),
    layer: number("layer"),
    head: number("head"),
    view: oneOf("view", VIEWS),
    tokens: oneOf("tokens", ["pieces", "words"]),
    combine: oneOf("combine", COMBINATIONS),
    chosen: chosen.map((one) => one.split(".").map(Number)),
    step: number("step"),
    scale: oneOf("scale", ["one", "max"]),
    sort: /^-?[a-z]+$/.test(given.get("sort") ?? "") ? given.get("sort") : START.sort,
  };
}

/** The same view with every number within what the sentence has. */
function within(state, sentence) {
  const { layers, heads } = sentence[state.kind];
  const least = (value, count) => Math.max(0, Math.min(value, count - 1));
  const layer = least(state.layer, layers);
  const chosen = state.chosen.filter(([l, h]) => l < layers && h < heads);
  return {
    ...state,
    layer,
    head: least(state.head, heads),
    view: state.view === "steps" && state.kind === "encoder" ? "map" : state.view, // Steps are the decoder's.
    step: least(state.step, sentence.target_tokens.length),
    tokens: sentence.source_words.length && sentence.target_words.length ? state.tokens : "pieces",
    chosen: state.combine === "one" ? [] : chosen.length ? chosen : headsOf({ layers, heads }, [layer]),
  };
}

/** The heads of a kind as [layer, head]: those of some layers, or all. */
function headsOf({ layers, heads }, some = [...Array(layers).keys()]) {
  return some.flatMap((layer) => Array.from({ length: heads }, (_, head) => [layer, head]));
}

/** The neighbouring head; from the first or last layer on to the next kind. */
function moved(state, sentence, across, down) {
  const head = Math.max(0, Math.min(state.head + across, sentence[state.kind].heads - 1));
  const layer = state.layer + down;
  if (layer >= 0 && layer < sentence[state.kind].layers) return { ...state, head, layer };
  const kind = KINDS[KINDS.indexOf(state.kind) + down];
  return kind ? { ...state, kind, head, layer: down < 0 ? sentence[kind].layers - 1 : 0 } : { ...state, head };
}

/** The head or heads that are shown, as [layer, head]. */
const shownHeads = (state) => (state.combine === "one" ? [[state.layer, state.head]] : state.chosen);

/** What the chosen head or heads read, with the names of its rows and columns. */
function matrixOf(state, sentence) {
  const heads = decoded(sentence, state.kind);
  const matrices = shownHeads(state).map(([layer, head]) => heads.head(layer, head));
  const { queries, keys, queryWords, keyWords, queryTexts, keyTexts } = sidesOf(sentence, state.kind);
  if (state.tokens === "pieces") return { ...combine(matrices, state.combine), queries, keys };
  const [queryGroups, keyGroups] = [groupsOf(queryWords), groupsOf(keyWords)];
  return {
    // Words first: the sum of its pieces' maxima is no weight of a word.
    ...combine(matrices.map((one) => merge(one, queryGroups, keyGroups)), state.combine),
    queries: namesOf(queryGroups, queries, queryWords, queryTexts),
    keys: namesOf(keyGroups, keys, keyWords, keyTexts),
  };
}

/** What groups of tokens are called: by the text of their word, or by their token. */
function namesOf(groups, tokens, words, texts) {
  return groups.map(([first]) => texts[words[first]] ?? tokens[first]);
}

/** What names the rows and the columns of a kind. */
function sidesOf(sentence, kind) {
  const source = [sentence.source_tokens, sentence.source_words, sentence.source_texts];
  const written = [sentence.target_tokens, sentence.target_words, sentence.target_texts];
  // The decoder reads the target one step late, after [SOS], which belongs to no word.
  const read = [sentence.target_inputs, [-1, ...sentence.target_words.slice(0, -1)], sentence.target_texts];
  const [queries, keys] = { encoder: [source, source], decoder: [written, read], cross: [written, source] }[kind];
  return {
    queries: queries[0], queryWords: queries[1], queryTexts: queries[2],
    keys: keys[0], keyWords: keys[1], keyTexts: keys[2],
  };
}

/** A kind's heads, decoded when they are first asked for, and kept with their sentence. */
function decoded(sentence, kind) {
  sentence.decoded ??= {};
  sentence.decoded[kind] ??= decodeHeads(sentence[kind]);
  return sentence.decoded[kind];
}
