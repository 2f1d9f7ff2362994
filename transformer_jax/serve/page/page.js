"use strict";
// The page for trying a model: sends the text and shows the answer. All texts are inserted with textContent, never as
// HTML.

const element = (id) => document.getElementById(id);

/** The English name of a language code, or the code itself if it is unknown. */
function languageName(code) {
  try {
    return new Intl.DisplayNames("en", { type: "language" }).of(code);
  } catch {
    return code;
  }
}

/** A new element with a class and a text, in the text's own direction. */
function makeElement(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  made.dir = "auto";
  return made;
}

/** The server's answer to a text. Throws an Error with a one-line message for the user. */
async function requestTranslation(text) {
  const response = await fetch("translate", { method: "POST", body: JSON.stringify({ text }) }).catch(() => {
    throw new Error("The server does not respond. Restart it.");
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/** One line of the text with its best translation and the warnings about it, and its n-best list with scores. */
function makeLine({ text, translations }) {
  const line = document.createElement("article");
  line.append(makeElement("p", "note", text), makeElement("p", "translation", translations[0].text));
  for (const { message } of translations[0].warnings) line.append(makeElement("p", "warning", message));
  if (translations.length > 1) {
    const list = makeElement("ol", "n-best");
    for (const { score, text: hypothesis } of translations) {
      const item = document.createElement("li");
      item.append(makeElement("span", "score", score.toFixed(3)), makeElement("span", "", hypothesis));
      list.append(item);
    }
    line.append(makeElement("p", "note n-best-heading", "All hypotheses with their scores:"), list);
  }
  return line;
}

/** Show the explorer at a URL in a sandboxed frame, which cannot access this page; hide it if the URL is null. */
function showAttention(url) {
  element("attention").querySelector("iframe")?.remove();
  element("attention").hidden = !url;
  if (!url) return;
  element("open-explorer").href = url;
  const frame = document.createElement("iframe");
  frame.title = "Attention explorer";
  frame.setAttribute("sandbox", "allow-scripts allow-downloads");
  frame.src = url;
  element("attention").append(frame);
}

async function translate(event) {
  event.preventDefault();
  if (element("translate").disabled) return; // Ctrl+Enter also works while the button is disabled.
  element("error").hidden = element("translate").disabled = true;
  element("translate").textContent = "Translating …";
  try {
    const { lines, attention } = await requestTranslation(element("text").value.trimEnd());
    element("lines").replaceChildren(...lines.map(makeLine));
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

for (const code of document.querySelectorAll(".language")) code.textContent = languageName(code.textContent);
element("form").addEventListener("submit", translate);
element("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("form").requestSubmit();
});
