"use strict";
// The numbers: pure functions, no document.
//
// A matrix is {rows, columns, values}: row = query, column = key, values row by row, each row sums to 1.

const UNIT = 1 / 65535; // A stored weight is a whole number of these: see explorer.py.

/** All heads of one kind, as layers of heads of matrices. Values stay 16-bit until a head or a row is asked for. */
function decodeHeads({ layers, heads, rows, columns, weights }) {
  const text = atob(weights);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const stored = new DataView(bytes.buffer);
  const size = rows * columns;
  const part = (first, rows) => {
    const values = new Float64Array(rows * columns);
    for (let i = 0; i < values.length; i++) values[i] = stored.getUint16(2 * (first + i), true) * UNIT;
    return { rows, columns, values };
  };
  const start = (layer, index) => (layer * heads + index) * size;
  return {
    layers, heads, rows, columns,
    head: (layer, index) => part(start(layer, index), rows),
    row: (layer, index, query) => part(start(layer, index) + query * columns, 1),
  };
}

/** Mean or maximum of matrices of one shape. Rows of a maximum need not sum to 1. */
function combine(matrices, how) {
  const [{ rows, columns }] = matrices;
  const values = new Float64Array(rows * columns);
  for (const matrix of matrices) {
    for (let i = 0; i < values.length; i++) {
      const weight = matrix.values[i];
      values[i] = how === "max" ? Math.max(values[i], weight) : values[i] + weight / matrices.length;
    }
  }
  return { rows, columns, values };
}

/** The tokens of each word, in order of appearance; a token without a word (-1) stays alone. */
function groupsOf(words) {
  const groups = new Map();
  words.forEach((word, token) => {
    const key = word < 0 ? `token ${token}` : word;
    groups.set(key, [...(groups.get(key) ?? []), token]);
  });
  return [...groups.values()];
}

/** Attention between groups of tokens: sums over the keys of a group, means over its queries. */
function merge(matrix, queryGroups, keyGroups) {
  const rows = queryGroups.length;
  const columns = keyGroups.length;
  const group = new Int32Array(matrix.columns);
  keyGroups.forEach((keys, number) => keys.forEach((key) => (group[key] = number)));
  const values = new Float64Array(rows * columns);
  queryGroups.forEach((queries, row) => {
    for (const query of queries) {
      for (let key = 0; key < matrix.columns; key++) {
        values[row * columns + group[key]] += matrix.values[query * matrix.columns + key] / queries.length;
      }
    }
  });
  return { rows, columns, values };
}

/** The marks that a key may bear: ours, and those of imported models. */
const SPECIAL = new Set(["[SOS]", "[EOS]", "<pad>", "</s>"]);
const isSpecial = (token) => SPECIAL.has(token);
const isPunctuation = (token) => /^[\p{P}\p{S}]+$/u.test(unmarked(token)) && !isSpecial(token);
/** A piece without the mark that says whether it begins a word. */
const unmarked = (token) => token.replace(/^(▁|##)+/u, "");

/**
 * What one head does in one sentence: means over its queries. docs/attention.md has the formulas.
 *
 * The diagonal of query q is the key round(q (S - 1) / (T - 1)): for self-attention the query's own position, for
 * cross-attention the place as far along the source.
 */
function summarise({ rows, columns, values }, keys) {
  const sums = {
    entropy: 0, confidence: 0, distance: 0, diagonal: 0, previous: 0, next: 0, special: 0, punctuation: 0,
  };
  const special = keys.map(isSpecial);
  const punctuation = keys.map(isPunctuation);
  for (let query = 0; query < rows; query++) {
    const along = rows > 1 ? (query * (columns - 1)) / (rows - 1) : 0;
    const diagonal = Math.floor(along + 0.5);
    let most = 0;
    for (let key = 0; key < columns; key++) {
      const weight = values[query * columns + key];
      if (weight === 0) continue;
      most = Math.max(most, weight);
      sums.entropy -= weight * Math.log2(weight);
      sums.distance += weight * Math.abs(key - along);
      if (key === diagonal) sums.diagonal += weight;
      if (key === diagonal - 1) sums.previous += weight;
      if (key === diagonal + 1) sums.next += weight;
      if (special[key]) sums.special += weight;
      if (punctuation[key]) sums.punctuation += weight;
    }
    sums.confidence += most;
  }
  return Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, sum / rows]));
}

/** A word for what a head looks like, from its summary: a hint, in one sentence, and no more. */
function characterise(kind, { confidence, diagonal, previous, next, special, punctuation }) {
  if (special + punctuation >= 0.6) return "idle";
  if (kind === "cross") return confidence >= 0.6 ? "alignment" : "";
  if (previous >= 0.6) return "previous";
  if (next >= 0.6) return "next";
  return diagonal >= 0.6 ? "own place" : "";
}

/** The largest values of a list, as [value, index], largest first. */
function largest(values, count) {
  return [...values].map((value, index) => [value, index]).sort((a, b) => b[0] - a[0]).slice(0, count);
}

function rowOf({ columns, values }, row) {
  return values.slice(row * columns, (row + 1) * columns);
}

function columnOf({ rows, columns, values }, column) {
  return Array.from({ length: rows }, (_, row) => values[row * columns + column]);
}

/** Rows of cells as CSV (RFC 4180). */
function csv(rows) {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}
