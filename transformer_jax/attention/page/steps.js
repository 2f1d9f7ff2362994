"use strict";
// The generation, step by step: what the decoder read before it wrote target token t, and what else it might have
// written.

/** What there is to say of one step. */
function stepOf(state, sentence) {
  const { step } = state;
  // A step writes one piece: only what it read, the first so many keys, is merged to words.
  const row = (kind, count, texts) => {
    const { keys, keyWords } = sidesOf(sentence, kind);
    const words = keyWords.slice(0, count);
    const groups = state.tokens === "pieces" ? keys.slice(0, count).map((_, key) => [key]) : groupsOf(words);
    const rows = shownHeads(state).map(([layer, head]) => {
      const { values } = decoded(sentence, kind).row(layer, head, step);
      return merge({ rows: 1, columns: count, values: values.slice(0, count) }, [[0]], groups);
    });
    const tokens = state.tokens === "pieces" ? keys.slice(0, count) : namesOf(groups, keys, words, texts);
    return { tokens, weights: combine(rows, state.combine).values };
  };
  // What comes after the step was hidden from it: a word that it goes on with is named by the pieces so far.
  const written = sentence.target_tokens[step];
  const before = sentence.target_tokens.slice(0, step);
  const piecesOf = (word) => before.filter((_, place) => sentence.target_words[place] === word);
  const toCome = new Set(sentence.target_words.slice(step));
  const known = sentence.target_texts.map((text, word) =>
    toCome.has(word) ? piecesOf(word).map(unmarked).join("") || "▁" : text,
  );
  const alternatives = (sentence.alternatives?.[step] ?? []).map((token, place) => ({
    token, probability: sentence.alternative_probabilities[step][place], written: token === written,
  }));
  if (sentence.probabilities && !alternatives.some((one) => one.written)) {
    alternatives.push({ token: written, probability: sentence.probabilities[step], written: true });
  }
  return {
    written,
    source: row("cross", sentence.source_tokens.length, sentence.source_texts),
    prefix: row("decoder", step + 1, known),
    alternatives,
  };
}

/** Fill the stage with one step; `go(step)` shows another. What is dragged or focused stays where it is. */
function showSteps(stage, state, sentence, { source, prefix, alternatives }, most, go) {
  if (stage.firstChild?.dataset.steps !== String(state.sentence)) stage.replaceChildren(stepFrame(state, sentence));
  const last = sentence.target_tokens.length - 1;
  const [back, slider, on, place] = stage.querySelector(".step-bar").children;
  allow(back, state.step > 0).onclick = () => go(state.step - 1);
  allow(on, state.step < last).onclick = () => go(state.step + 1);
  Object.assign(slider, { value: state.step, oninput: () => go(Number(slider.value)) });
  place.textContent = `step ${state.step} (0 to ${last})`;
  const strip = stage.querySelector(".strip");
  [...strip.children].forEach((button, step) => {
    button.classList.toggle("written", step < state.step);
    button.classList.toggle("current", step === state.step);
    button.setAttribute("aria-current", step === state.step ? "step" : "false");
    button.tabIndex = step === state.step ? 0 : -1;
    button.onclick = () => go(step);
  });
  strip.onkeydown = (event) => {
    const [across] = (!event.shiftKey && arrowOf(event)) || [0];
    if (!across) return;
    event.preventDefault();
    go(state.step + (strip.dir === "rtl" ? -across : across));
    strip.querySelector(".current").focus({ preventScroll: true });
  };
  reveal(strip, strip.children[state.step]);
  stage.querySelector(".parts").replaceChildren(
    part("Read from the source (cross-attention)", chips(source, most, directionOf(sentence.source))),
    part("Read from its own prefix (decoder self-attention)", chips(prefix, most, directionOf(sentence.translation))),
    part("Likeliest tokens at this step", alternatives.length ? bars(alternatives) : note("They are not known.")),
  );
  stage.style.width = stage.style.height = "auto";
}

/** What is the same at every step: the controls and the tokens to be written. */
function stepFrame(state, sentence) {
  const bar = document.createElement("div");
  bar.className = "step-bar";
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: sentence.target_tokens.length - 1, id: "step" });
  slider.setAttribute("aria-label", "Step");
  const place = document.createElement("span");
  place.className = "place";
  bar.append(control("‹", "Previous step"), slider, control("›", "Next step"), place);
  const strip = document.createElement("p");
  strip.className = "strip";
  strip.dir = directionOf(sentence.translation);
  strip.append(...sentence.target_tokens.map(tokenButton));
  const parts = document.createElement("div");
  parts.className = "parts";
  const frame = document.createElement("div");
  frame.className = "frame";
  frame.dataset.steps = state.sentence;
  frame.append(bar, strip, parts);
  return frame;
}

/** Whether a button leads anywhere. Disabled for good, it would lose the focus. */
function allow(button, can) {
  button.setAttribute("aria-disabled", !can);
  return button;
}

/** A button with a text, a name, and perhaps something to do. */
function control(text, label, act = null) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: text, onclick: act });
  button.setAttribute("aria-label", label);
  return button;
}

function part(title, body) {
  const section = document.createElement("section");
  const heading = document.createElement("h3");
  heading.textContent = title;
  section.append(heading, body);
  return section;
}

function note(text) {
  const line = document.createElement("p");
  line.className = "note";
  line.textContent = text;
  return line;
}

/** Tokens in reading order, each with its weight below it and in its colour. */
function chips({ tokens, weights }, most, direction) {
  const line = document.createElement("p");
  line.className = "chips";
  const { colour, ink } = palette();
  line.dir = direction;
  line.append(...tokens.map((token, index) => {
    const chip = document.createElement("span");
    const share = most > 0 ? weights[index] / most : 0;
    chip.className = "chip";
    chip.title = `${shown(token)}: ${weights[index].toFixed(4)}`;
    chip.style.background = colour(share);
    chip.style.color = ink(share);
    const text = document.createElement("bdi");
    text.textContent = shown(token);
    const weight = document.createElement("small");
    weight.textContent = weights[index].toFixed(2);
    chip.append(text, weight);
    return chip;
  }));
  return line;
}

/** Tokens with their probabilities or weights; one that was written is marked. */
function bars(tokens) {
  const list = document.createElement("ol");
  list.className = "bars";
  list.append(...tokens.map(({ token, probability, written = false }) => {
    const item = document.createElement("li");
    item.classList.toggle("written", written);
    const text = document.createElement("bdi");
    text.textContent = shown(token);
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.style.setProperty("--share", probability);
    const number = document.createElement("span");
    number.className = "number";
    number.textContent = `${probability.toFixed(4)}${written ? " written" : ""}`;
    item.append(text, bar, number);
    return item;
  }));
  return list;
}
