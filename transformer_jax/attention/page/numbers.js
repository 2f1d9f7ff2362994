"use strict";
// Calculations without access to the document.
//
// A matrix is {rows, columns, values}: a row per query, a column per key, values in row-major order. Rows sum to 1.

const WEIGHT_UNIT = 1 / 65535; // Stored weights are multiples of this: see quantize_weights in explorer.py.

/** The heads of one kind; values stay 16-bit integers until a head or a row is requested. */
function decodeHeads({ layers, heads, rows, columns, weights }) {
  const text = atob(weights);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const stored = new DataView(bytes.buffer);
  const size = rows * columns;
  const readMatrix = (start, rows) => {
    const values = new Float64Array(rows * columns);
    for (let i = 0; i < values.length; i++) values[i] = stored.getUint16(2 * (start + i), true) * WEIGHT_UNIT;
    return { rows, columns, values };
  };
  const startOf = (layer, head) => (layer * heads + head) * size;
  return {
    layers, heads, rows, columns,
    head: (layer, head) => readMatrix(startOf(layer, head), rows),
    row: (layer, head, query) => readMatrix(startOf(layer, head) + query * columns, 1),
  };
}

/** The mean ("mean" or "one") or maximum ("max") of matrices. Rows of a maximum may sum to more than 1. */
function combineHeads(matrices, method) {
  const [{ rows, columns }] = matrices;
  const values = new Float64Array(rows * columns);
  for (const matrix of matrices) {
    for (let i = 0; i < values.length; i++) {
      const weight = matrix.values[i];
      values[i] = method === "max" ? Math.max(values[i], weight) : values[i] + weight / matrices.length;
    }
  }
  return { rows, columns, values };
}

/** The token indices of each word, in order of appearance; a token without a word (-1) forms its own group. */
function groupByWord(words) {
  const groups = new Map();
  words.forEach((word, token) => {
    const key = word < 0 ? `token ${token}` : word;
    groups.set(key, [...(groups.get(key) ?? []), token]);
  });
  return [...groups.values()];
}

/** Attention between groups of tokens: the sum over the keys of a group, the mean over its queries. */
function mergeGroups(matrix, queryGroups, keyGroups) {
  const rows = queryGroups.length;
  const columns = keyGroups.length;
  const columnOfKey = new Int32Array(matrix.columns);
  keyGroups.forEach((keys, column) => keys.forEach((key) => (columnOfKey[key] = column)));
  const values = new Float64Array(rows * columns);
  queryGroups.forEach((queries, row) => {
    for (const query of queries) {
      for (let key = 0; key < matrix.columns; key++) {
        values[row * columns + columnOfKey[key]] += matrix.values[query * matrix.columns + key] / queries.length;
      }
    }
  });
  return { rows, columns, values };
}

/** Special tokens that can be keys: ours and those of imported models. */
const SPECIAL_TOKENS = new Set(["[SOS]", "[EOS]", "<pad>", "</s>"]);
const isSpecial = (token) => SPECIAL_TOKENS.has(token);
const isPunctuation = (token) => /^[\p{P}\p{S}]+$/u.test(withoutWordMark(token)) && !isSpecial(token);
/** A piece without the mark of a word's start (▁) or continuation (##). */
const withoutWordMark = (token) => token.replace(/^(▁|##)+/u, "");

/**
 * The summary of one head in one sentence: means over its queries. docs/attention.md lists the formulas.
 *
 * The diagonal of query q is the key round(q (S - 1) / (T - 1)). In self-attention this is the query's own position, in
 * cross-attention the corresponding position in the source.
 */
function summarizeHead({ rows, columns, values }, keys) {
  const sums = {
    entropy: 0, confidence: 0, distance: 0, diagonal: 0, previous: 0, next: 0, special: 0, punctuation: 0,
  };
  const special = keys.map(isSpecial);
  const punctuation = keys.map(isPunctuation);
  for (let query = 0; query < rows; query++) {
    const position = rows > 1 ? (query * (columns - 1)) / (rows - 1) : 0;
    const diagonal = Math.floor(position + 0.5);
    let largest = 0;
    for (let key = 0; key < columns; key++) {
      const weight = values[query * columns + key];
      if (weight === 0) continue;
      largest = Math.max(largest, weight);
      sums.entropy -= weight * Math.log2(weight);
      sums.distance += weight * Math.abs(key - position);
      if (key === diagonal) sums.diagonal += weight;
      if (key === diagonal - 1) sums.previous += weight;
      if (key === diagonal + 1) sums.next += weight;
      if (special[key]) sums.special += weight;
      if (punctuation[key]) sums.punctuation += weight;
    }
    sums.confidence += largest;
  }
  return Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, sum / rows]));
}

/** A rough classification of a head from its summary in one sentence; empty if no class applies. */
function classifyHead(kind, { confidence, diagonal, previous, next, special, punctuation }) {
  if (special + punctuation >= 0.6) return "idle";
  if (kind === "cross") return confidence >= 0.6 ? "alignment" : "";
  if (previous >= 0.6) return "previous";
  if (next >= 0.6) return "next";
  return diagonal >= 0.6 ? "own position" : "";
}

/** The largest values of a list as [value, index], in descending order. */
function largestValues(values, count) {
  return [...values].map((value, index) => [value, index]).sort((a, b) => b[0] - a[0]).slice(0, count);
}

function matrixRow({ columns, values }, row) {
  return values.slice(row * columns, (row + 1) * columns);
}

function matrixColumn({ rows, columns, values }, column) {
  return Array.from({ length: rows }, (_, row) => values[row * columns + column]);
}

/** Rows of cells as CSV (RFC 4180). */
function toCsv(rows) {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}
