"use strict";
// One scale from the page's own ground to full weight. Lightness changes evenly in OKLab (Ottosson 2020), one way only:
// grey print and colour-blind readers see the same order.

/** Lightness, chroma and hue of weight 0, a middle, and weight 1. */
const SCALES = {
  light: [[0.985, 0.004, 250], [0.63, 0.15, 250], [0.27, 0.11, 275]],
  dark: [[0.235, 0.012, 260], [0.57, 0.13, 250], [0.95, 0.06, 210]],
};

/** 256 colours of a theme, as [red, green, blue]. */
function makeScale(theme) {
  const [first, middle, last] = SCALES[theme].map(([lightness, chroma, hue]) => {
    const angle = (hue * Math.PI) / 180;
    return [lightness, chroma * Math.cos(angle), chroma * Math.sin(angle)];
  });
  const bend = (middle[0] - first[0]) / (last[0] - first[0]);
  return Array.from({ length: 256 }, (_, step) => {
    const place = step / 255;
    const [from, to, share] =
      place < bend ? [first, middle, place / bend] : [middle, last, (place - bend) / (1 - bend)];
    return toRgb(...from.map((value, i) => value + share * (to[i] - value)));
  });
}

/** OKLab to sRGB, 0 to 255. */
function toRgb(lightness, a, b) {
  const long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
    -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
    -0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short,
  ];
  return linear.map((value) => {
    const part = Math.max(0, Math.min(1, value));
    return Math.round(255 * (part <= 0.0031308 ? 12.92 * part : 1.055 * part ** (1 / 2.4) - 0.055));
  });
}

const scales = { light: makeScale("light"), dark: makeScale("dark") };

/** The theme chosen on the page, else the system's. */
function theme() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

/** The theme's scale: what a share from 0 to 1 is painted with, and what can be read on it. */
function palette() {
  const scale = scales[theme()];
  const at = (share) => scale[Math.round(255 * Math.max(0, Math.min(1, share)))];
  return {
    rgb: at,
    colour: (share) => `rgb(${at(share).join(" ")})`,
    ink(share) {
      const [red, green, blue] = at(share);
      return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#10131a" : "#ffffff";
    },
  };
}

/** A colour that the style sheet names. */
function named(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
