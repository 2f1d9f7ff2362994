"use strict";
// Drawing surfaces with the same methods: a canvas, for the screen and PNG, and SVG.

const FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Noto Sans CJK JP', sans-serif";

/** A surface that draws on a canvas; its context must already be scaled to the pixels of the screen. */
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
    /** Vertically centred on y; angle in degrees, clockwise. */
    text(x, y, string, { fill, size = 12, align = "left", angle = 0, bold = false }) {
      context.save();
      context.translate(x, y);
      context.rotate((angle * Math.PI) / 180);
      context.fillStyle = fill;
      context.font = `${bold ? "600 " : ""}${size}px ${FONT}`;
      context.direction = textDirection(string);
      context.textAlign = align;
      context.textBaseline = "middle";
      context.fillText(string, 0, 0);
      context.restore();
    },
    translate(x, y, draw) {
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

/** A surface that draws SVG; `document()` returns the text of the image. */
function svgSurface(width, height) {
  const parts = [];
  let clips = 0;
  const n = (value) => +value.toFixed(2);
  const escapeXml = (text) =>
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
      const direction = textDirection(string);
      const [left, right] = direction === "rtl" ? ["end", "start"] : ["start", "end"];
      const anchor = { left, center: "middle", right }[align];
      parts.push(
        `<text transform="translate(${n(x)} ${n(y)}) rotate(${angle})" dy="0.35em" direction="${direction}" ` +
          `text-anchor="${anchor}" font-size="${size}" font-weight="${bold ? 600 : 400}" fill="${fill}">` +
          `${escapeXml(string)}</text>`,
      );
    },
    translate(x, y, draw) {
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
        `viewBox="0 0 ${Math.ceil(width)} ${Math.ceil(height)}" font-family="${escapeXml(FONT)}">` +
        `${parts.join("\n")}</svg>`
      );
    },
  };
}

// Scrolling measures the same words repeatedly, so their widths are cached.
const measuringContext = document.createElement("canvas").getContext("2d");
const cachedWidths = new Map();

/** The width of a text in pixels. */
function textWidth(text, size) {
  const key = `${size} ${text}`;
  if (!cachedWidths.has(key)) {
    measuringContext.font = `${size}px ${FONT}`;
    cachedWidths.set(key, measuringContext.measureText(text).width);
  }
  return cachedWidths.get(key);
}

/** The text, shortened with an ellipsis if it is wider than `maxWidth` pixels. */
function truncateText(text, size, maxWidth) {
  if (textWidth(text, size) <= maxWidth) return text;
  const characters = Array.from(text);
  while (characters.length > 1 && textWidth(characters.join("") + "…", size) > maxWidth) characters.pop();
  return characters.join("") + "…";
}

/** A token as displayed: control characters and invisible characters are replaced by their code points. */
function visibleToken(token) {
  if (token === "") return '""';
  // Joiners are kept, because they shape Persian and Indic words.
  return token.replaceAll(" ", "␣").replace(/(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Z}]/gu, (character) =>
    `<U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}>`,
  );
}

/** "rtl" if the first letter of a text belongs to a right-to-left script, else "ltr". */
function textDirection(text) {
  const first = /\p{L}/u.exec(text)?.[0] ?? "";
  return /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(first) ? "rtl" : "ltr";
}
