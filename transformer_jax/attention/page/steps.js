"use strict";
// Decoding step by step: what the decoder attended to when it predicted target token t, and the most probable tokens.

/** The data of one step. */
function stepData(state, sentence) {
  const { step } = state;
  // A step predicts one piece, so only its keys, the first `count`, are merged to words.
  const attendedTokens = (kind, count, texts) => {
    const { keys, keyWords } = axisTokens(sentence, kind);
    const words = keyWords.slice(0, count);
    const groups = state.tokens === "pieces" ? keys.slice(0, count).map((_, key) => [key]) : groupByWord(words);
    const rows = selectedHeads(state).map(([layer, head]) => {
      const { values } = decodedHeads(sentence, kind).row(layer, head, step);
      return mergeGroups({ rows: 1, columns: count, values: values.slice(0, count) }, [[0]], groups);
    });
    const tokens = state.tokens === "pieces" ? keys.slice(0, count) : groupNames(groups, keys, words, texts);
    return { tokens, weights: combineHeads(rows, state.combine).values };
  };
  const chosenToken = sentence.target_tokens[step];
  const alternatives = (sentence.alternatives?.[step] ?? []).map((token, index) => ({
    token, probability: sentence.alternative_probabilities[step][index], isChosen: token === chosenToken,
  }));
  if (sentence.probabilities && !alternatives.some(({ isChosen }) => isChosen)) {
    alternatives.push({ token: chosenToken, probability: sentence.probabilities[step], isChosen: true });
  }
  return {
    source: attendedTokens("cross", sentence.source_tokens.length, sentence.source_texts),
    prefix: attendedTokens("decoder", step + 1, prefixTexts(sentence, step)),
    alternatives,
  };
}

/** The texts of the target words before a step; an unfinished word is named after its pieces so far. */
function prefixTexts(sentence, step) {
  const prefix = sentence.target_tokens.slice(0, step);
  const piecesOf = (word) => prefix.filter((_, index) => sentence.target_words[index] === word);
  const unfinished = new Set(sentence.target_words.slice(step));
  return sentence.target_texts.map((text, word) =>
    unfinished.has(word) ? piecesOf(word).map(withoutWordMark).join("") || "▁" : text,
  );
}

/** Fill the stage with one step; `onStep(step)` selects another. The controls are reused, so they keep the focus. */
function showStep(stage, state, sentence, { source, prefix, alternatives }, maxWeight, onStep) {
  if (stage.firstChild?.dataset.steps !== String(state.sentence)) stage.replaceChildren(makeStepFrame(state, sentence));
  const last = sentence.target_tokens.length - 1;
  const [previous, slider, next, number] = stage.querySelector(".step-bar").children;
  setAvailable(previous, state.step > 0).onclick = () => onStep(state.step - 1);
  setAvailable(next, state.step < last).onclick = () => onStep(state.step + 1);
  Object.assign(slider, { value: state.step, oninput: () => onStep(Number(slider.value)) });
  number.textContent = `step ${state.step} (0 to ${last})`;
  const strip = stage.querySelector(".strip");
  [...strip.children].forEach((button, step) => {
    button.classList.toggle("predicted", step < state.step);
    button.classList.toggle("current", step === state.step);
    button.setAttribute("aria-current", step === state.step ? "step" : "false");
    button.tabIndex = step === state.step ? 0 : -1;
    button.onclick = () => onStep(step);
  });
  strip.onkeydown = (event) => {
    const [right] = (!event.shiftKey && arrowDirection(event)) || [0];
    if (!right) return;
    event.preventDefault();
    onStep(state.step + (strip.dir === "rtl" ? -right : right));
    strip.querySelector(".current").focus({ preventScroll: true });
  };
  scrollIntoBox(strip, strip.children[state.step]);
  const unknown = "The probabilities were not recorded for this sentence.";
  stage.querySelector(".parts").replaceChildren(
    makeSection("Source (cross-attention)", makeChips(source, maxWeight, textDirection(sentence.source))),
    makeSection(
      "Target prefix (decoder self-attention)",
      makeChips(prefix, maxWeight, textDirection(sentence.translation)),
    ),
    makeSection("Most probable tokens", alternatives.length ? makeBars(alternatives) : makeNote(unknown)),
  );
  stage.style.width = stage.style.height = "auto";
}

/** The parts that all steps share: the controls and the target tokens. */
function makeStepFrame(state, sentence) {
  const bar = document.createElement("div");
  bar.className = "step-bar";
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: sentence.target_tokens.length - 1, id: "step" });
  slider.setAttribute("aria-label", "Step");
  const number = document.createElement("span");
  number.className = "step-number";
  bar.append(makeButton("‹", "Previous step"), slider, makeButton("›", "Next step"), number);
  const strip = document.createElement("p");
  strip.className = "strip";
  strip.dir = textDirection(sentence.translation);
  strip.append(...sentence.target_tokens.map(makeTokenButton));
  const parts = document.createElement("div");
  parts.className = "parts";
  const frame = document.createElement("div");
  frame.className = "frame";
  frame.dataset.steps = state.sentence;
  frame.append(bar, strip, parts);
  return frame;
}

/** Mark a button as available or not. The attribute `disabled` would remove its keyboard focus. */
function setAvailable(button, isAvailable) {
  button.setAttribute("aria-disabled", !isAvailable);
  return button;
}

/** A button with a text and an accessible name. */
function makeButton(text, label, onclick = null) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: text, onclick });
  button.setAttribute("aria-label", label);
  return button;
}

function makeSection(title, content) {
  const section = document.createElement("section");
  const heading = document.createElement("h3");
  heading.textContent = title;
  section.append(heading, content);
  return section;
}

function makeNote(text) {
  const line = document.createElement("p");
  line.className = "note";
  line.textContent = text;
  return line;
}

/** Tokens in reading order, each with its weight as a number and as its colour. */
function makeChips({ tokens, weights }, maxWeight, direction) {
  const line = document.createElement("p");
  line.className = "chips";
  const { colour, textColour } = palette();
  line.dir = direction;
  line.append(...tokens.map((token, index) => {
    const chip = document.createElement("span");
    const fraction = maxWeight > 0 ? weights[index] / maxWeight : 0;
    chip.className = "chip";
    chip.title = `${visibleToken(token)}: ${weights[index].toFixed(4)}`;
    chip.style.background = colour(fraction);
    chip.style.color = textColour(fraction);
    const text = document.createElement("bdi");
    text.textContent = visibleToken(token);
    const weight = document.createElement("small");
    weight.textContent = weights[index].toFixed(2);
    chip.append(text, weight);
    return chip;
  }));
  return line;
}

/** Tokens with bars for their probabilities or weights; the token of the translation is marked as chosen. */
function makeBars(tokens) {
  const list = document.createElement("ol");
  list.className = "bars";
  list.append(...tokens.map(({ token, probability, isChosen = false }) => {
    const item = document.createElement("li");
    item.classList.toggle("chosen-token", isChosen);
    const text = document.createElement("bdi");
    text.textContent = visibleToken(token);
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.style.setProperty("--share", probability);
    const number = document.createElement("span");
    number.className = "number";
    number.textContent = `${probability.toFixed(4)}${isChosen ? " chosen" : ""}`;
    item.append(text, bar, number);
    return item;
  }));
  return list;
}
