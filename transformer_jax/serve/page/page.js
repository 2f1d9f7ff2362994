"use strict";
// Sends the text, shows what comes back. Texts go in through textContent alone.

const element = (id) => document.getElementById(id);

/** The name of a language, or what its code is if it is none. */
function languageName(code) {
  try {
    return new Intl.DisplayNames("en", { type: "language" }).of(code);
  } catch {
    return code;
  }
}

/** A new element with a class and a text, in the direction that the text is written in. */
function made(tag, name, text = "") {
  const one = document.createElement(tag);
  one.className = name;
  one.textContent = text;
  one.dir = "auto";
  return one;
}

/** What was asked for, or an error whose message is one line for the reader. */
async function translated(text) {
  const answer = await fetch("translate", { method: "POST", body: JSON.stringify({ text }) }).catch(() => {
    throw new Error("The server does not answer. Start it again.");
  });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

/** A line of the text, its best translation, and all that were found, with their scores. */
function shownLine({ text, parts, translations }) {
  const line = document.createElement("article");
  line.append(made("p", "note", text), made("p", "translation", translations[0].text));
  if (parts) line.append(made("p", "note", `Longer than the model was trained on: in ${parts} parts, without attention.`));
  const others = made("ol", "others");
  for (const one of translations.length > 1 ? translations : []) {
    const item = document.createElement("li");
    item.append(made("span", "score", one.score.toFixed(3)), made("span", "", one.text));
    others.append(item);
  }
  if (others.children.length) line.append(others);
  return line;
}

/** The explorer, in a frame that can touch nothing of this page; without an address, none. */
function showAttention(address) {
  element("attention").querySelector("iframe")?.remove();
  element("attention").hidden = !address;
  if (!address) return;
  element("alone").href = address;
  const frame = document.createElement("iframe");
  frame.title = "Attention explorer";
  frame.setAttribute("sandbox", "allow-scripts allow-downloads");
  frame.src = address;
  element("attention").append(frame);
}

async function translate(event) {
  event.preventDefault();
  if (element("translate").disabled) return; // Ctrl-Enter does not ask the button.
  element("error").hidden = element("translate").disabled = true;
  element("translate").textContent = "Translating …";
  try {
    const { lines, attention } = await translated(element("text").value.trimEnd());
    element("lines").replaceChildren(...lines.map(shownLine));
    showAttention(attention);
  } catch (error) {
    element("lines").replaceChildren();
    showAttention(null);
    element("error").textContent = error.message;
    element("error").hidden = false;
  }
  element("translate").textContent = "Translate";
  element("translate").disabled = false;
}

for (const one of document.querySelectorAll(".language")) one.textContent = languageName(one.textContent);
element("form").addEventListener("submit", translate);
element("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("form").requestSubmit();
});
