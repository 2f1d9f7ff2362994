"use strict";
// The colour scale of weights. Lightness changes linearly and monotonically in OKLab (Ottosson 2020), so the order of
// weights stays visible in greyscale and to colour-blind readers.

/** Lightness, chroma and hue of weight 0, of an intermediate weight and of weight 1. */
const COLOUR_STOPS = {
  light: [[0.985, 0.004, 250], [0.63, 0.15, 250], [0.27, 0.11, 275]],
  dark: [[0.235, 0.012, 260], [0.57, 0.13, 250], [0.95, 0.06, 210]],
};

/** 256 colours of a theme, as [red, green, blue]. */
function makeColourScale(theme) {
  const [first, middle, last] = COLOUR_STOPS[theme].map(([lightness, chroma, hue]) => {
    const angle = (hue * Math.PI) / 180;
    return [lightness, chroma * Math.cos(angle), chroma * Math.sin(angle)];
  });
  const middlePosition = (middle[0] - first[0]) / (last[0] - first[0]);
  return Array.from({ length: 256 }, (_, step) => {
    const position = step / 255;
    const [from, to, fraction] =
      position < middlePosition
        ? [first, middle, position / middlePosition]
        : [middle, last, (position - middlePosition) / (1 - middlePosition)];
    return oklabToRgb(...from.map((value, i) => value + fraction * (to[i] - value)));
  });
}

/** An OKLab colour as sRGB, 0 to 255. */
function oklabToRgb(lightness, a, b) {
  const long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
    -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
    -0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short,
  ];
  return linear.map((value) => {
    const channel = Math.max(0, Math.min(1, value));
    return Math.round(255 * (channel <= 0.0031308 ? 12.92 * channel : 1.055 * channel ** (1 / 2.4) - 0.055));
  });
}

const colourScales = { light: makeColourScale("light"), dark: makeColourScale("dark") };

/** The theme selected on the page; default: the theme of the system. */
function currentTheme() {
  const selected = document.documentElement.dataset.theme;
  return selected ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

/** The colours of the current theme: `colour` and `rgb` map a fraction from 0 to 1, `textColour` contrasts with it. */
function palette() {
  const scale = colourScales[currentTheme()];
  const rgb = (fraction) => scale[Math.round(255 * Math.max(0, Math.min(1, fraction)))];
  return {
    rgb,
    colour: (fraction) => `rgb(${rgb(fraction).join(" ")})`,
    textColour(fraction) {
      const [red, green, blue] = rgb(fraction);
      return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#10131a" : "#ffffff";
    },
  };
}

/** The value of a colour variable of the style sheet. */
function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
