"use strict";
// What drawings are made on: a canvas, for the screen and PNG, or SVG. Both offer the same few strokes.

const FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Noto Sans CJK JP', sans-serif";

/** @param context of a canvas that is already scaled to the screen's pixels */
function canvasSurface(context) {
  return {
    rectangle(x, y, width, height, fill) {
      context.fillStyle = fill;
      context.fillRect(x, y, width, height);
    },
    frame(x, y, width, height, stroke, thickness) {
      context.strokeStyle = stroke;
      context.lineWidth = thickness;
      context.strokeRect(x, y, width, height);
    },
    curve(x1, y1, x2, y2, stroke, thickness, opacity) {
      const middle = (x1 + x2) / 2;
      context.globalAlpha = opacity;
      context.strokeStyle = stroke;
      context.lineWidth = thickness;
      context.beginPath();
      context.moveTo(x1, y1);
      context.bezierCurveTo(middle, y1, middle, y2, x2, y2);
      context.stroke();
      context.globalAlpha = 1;
    },
    /** Centred on y; angle in degrees, clockwise. */
    text(x, y, string, { fill, size = 12, align = "left", angle = 0, bold = false }) {
      context.save();
      context.translate(x, y);
      context.rotate((angle * Math.PI) / 180);
      context.fillStyle = fill;
      context.font = `${bold ? "600 " : ""}${size}px ${FONT}`;
      context.direction = directionOf(string);
      context.textAlign = align;
      context.textBaseline = "middle";
      context.fillText(string, 0, 0);
      context.restore();
    },
    shift(x, y, draw) {
      context.save();
      context.translate(x, y);
      draw();
      context.restore();
    },
    clip(x, y, width, height, draw) {
      context.save();
      context.beginPath();
      context.rect(x, y, width, height);
      context.clip();
      draw();
      context.restore();
    },
  };
}

/** The same strokes as SVG; `document()` is the whole picture. */
function svgSurface(width, height) {
  const parts = [];
  let clips = 0;
  const n = (value) => +value.toFixed(2);
  const quoted = (text) =>
    String(text).replace(/[&<>"]/g, (mark) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[mark]);
  return {
    rectangle(x, y, w, h, fill) {
      parts.push(`<rect x="${n(x)}" y="${n(y)}" width="${n(w)}" height="${n(h)}" fill="${fill}"/>`);
    },
    frame(x, y, w, h, stroke, thickness) {
      parts.push(
        `<rect x="${n(x)}" y="${n(y)}" width="${n(w)}" height="${n(h)}" fill="none" ` +
          `stroke="${stroke}" stroke-width="${thickness}"/>`,
      );
    },
    curve(x1, y1, x2, y2, stroke, thickness, opacity) {
      const middle = n((x1 + x2) / 2);
      parts.push(
        `<path d="M${n(x1)} ${n(y1)}C${middle} ${n(y1)} ${middle} ${n(y2)} ${n(x2)} ${n(y2)}" fill="none" ` +
          `stroke="${stroke}" stroke-width="${n(thickness)}" stroke-opacity="${n(opacity)}"/>`,
      );
    },
    text(x, y, string, { fill, size = 12, align = "left", angle = 0, bold = false }) {
      const direction = directionOf(string);
      const [left, right] = direction === "rtl" ? ["end", "start"] : ["start", "end"];
      const anchor = { left, center: "middle", right }[align];
      parts.push(
        `<text transform="translate(${n(x)} ${n(y)}) rotate(${angle})" dy="0.35em" direction="${direction}" ` +
          `text-anchor="${anchor}" font-size="${size}" font-weight="${bold ? 600 : 400}" fill="${fill}">` +
          `${quoted(string)}</text>`,
      );
    },
    shift(x, y, draw) {
      parts.push(`<g transform="translate(${n(x)} ${n(y)})">`);
      draw();
      parts.push("</g>");
    },
    clip(x, y, w, h, draw) {
      const name = `clip${clips++}`;
      parts.push(
        `<clipPath id="${name}"><rect x="${n(x)}" y="${n(y)}" width="${n(w)}" height="${n(h)}"/></clipPath>`,
        `<g clip-path="url(#${name})">`,
      );
      draw();
      parts.push("</g>");
    },
    document() {
      return (
        `<svg xmlns="http://www.w3.org/2000/svg" width="${Math.ceil(width)}" height="${Math.ceil(height)}" ` +
        `viewBox="0 0 ${Math.ceil(width)} ${Math.ceil(height)}" font-family="${quoted(FONT)}">${parts.join("\n")}</svg>`
      );
    },
  };
}

// Widths of words are asked for again and again while scrolling.
const ruler = document.createElement("canvas").getContext("2d");
const widths = new Map();

/** Pixels that a text takes at a size. */
function widthOf(text, size) {
  const key = `${size} ${text}`;
  if (!widths.has(key)) {
    ruler.font = `${size}px ${FONT}`;
    widths.set(key, ruler.measureText(text).width);
  }
  return widths.get(key);
}

/** The text, ended with an ellipsis if it is wider than that many pixels. */
function shortened(text, size, most) {
  if (widthOf(text, size) <= most) return text;
  const characters = Array.from(text);
  while (characters.length > 1 && widthOf(characters.join("") + "…", size) > most) characters.pop();
  return characters.join("") + "…";
}

/** A token as it is shown: invisible and control characters as their code points. */
function shown(token) {
  if (token === "") return '""';
  // The joiners shape Persian and Indic words.
  return token.replaceAll(" ", "␣").replace(/(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Z}]/gu, (character) =>
    `<U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}>`,
  );
}

/** Whether a text begins in a script that runs from right to left. */
function directionOf(text) {
  const first = /\p{L}/u.exec(text)?.[0] ?? "";
  return /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(first) ? "rtl" : "ltr";
}
