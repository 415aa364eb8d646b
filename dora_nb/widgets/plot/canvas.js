// What plots draw with: scales, axes and lines on a canvas. It is prepended to the code of each widget that
// draws one, behind page.js, and knows no widget.

const PLOT_FONT = "11px system-ui, sans-serif";
const PADDING = 0.05;
const [FIRST, MINIMUM, MAXIMUM, LAST] = [0, 1, 2, 3];
// At least 4:1 on the background of JupyterLab's light and dark themes.
const COLOURS = {
  light: ["#1f6fb4", "#c2570c", "#2a7d3f", "#b3261e", "#7a4fb5", "#8a5a2b", "#c0398b", "#0f7f8c"],
  dark: ["#6cb2f5", "#ffa657", "#6fcf87", "#ff7b72", "#c4a1f7", "#d2a679", "#f78fcb", "#56d4dd"],
};
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]]; // tell lines of the same colour apart
const LONG_STEPS = [30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

// ----- scales and words

/** The place of the first column that is not before the time. @param {Column[]} columns */
function placeOf(columns, secs) {
  let [low, high] = [0, columns.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (columns[middle].secs < secs) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** 1, 2 or 5 times a power of ten, not less than `rough`. */
function niceStep(rough) {
  const size = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((each) => each * size).find((step) => step >= rough * (1 - 1e-9));
}

function timeStep(rough) {
  return rough <= 20 ? niceStep(rough) : (LONG_STEPS.find((step) => step >= rough) ?? 86400);
}

/** The multiples of `step` between two values; none if they cannot be told apart. */
function multiples(low, high, step) {
  const [first, last] = [Math.ceil(low / step - 1e-9), Math.floor(high / step + 1e-9)];
  if (!(step > 0) || !Number.isFinite(first) || !Number.isFinite(last) || last - first > 100) return [];
  return Array.from({ length: last - first + 1 }, (_, place) => (first + place) * step);
}

const decimals = (step) => Math.min(12, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));

const minus = (text) => text.replace("-", "\u2212");

function tickText(value, step) {
  const size = Math.abs(value);
  if (size < step / 2) return "0";
  if (size >= 1e7 && step >= 1) return minus(value.toPrecision(4).replace(/\.?0+e/, "e"));
  return minus(step < 1e-6 ? value.toExponential(2) : value.toFixed(decimals(step)));
}

function timeText(secs, step, isNow) {
  if (Math.abs(secs) < step / 2) return isNow ? "now" : "0 s";
  if (step >= 3600) return minus(`${+(secs / 3600).toFixed(1)} h`);
  if (step >= 60) return minus(`${secs / 60} min`);
  return minus(`${secs.toFixed(decimals(step))} s`);
}

function valueText(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e7 || size < 1e-4)) return minus(value.toExponential(4));
  return minus(String(+value.toPrecision(6)));
}

/** The time of the day, in the browser's zone, with milliseconds. */
function clockText(secs) {
  const time = new Date(secs * 1000);
  const part = (value, digits) => String(value).padStart(digits, "0");
  const day = [time.getHours(), time.getMinutes(), time.getSeconds()].map((each) => part(each, 2));
  return `${day.join(":")}.${part(time.getMilliseconds(), 3)}`;
}

/** A range with some room around two values; see y_range.py. */
function padded(low, high) {
  const half = high / 2 - low / 2; // divided first: the difference of two large values is infinite
  const size = Math.max(Math.abs(low), Math.abs(high));
  const room = half <= size * 1e-12 || size < 1e-300 ? (size < 1e-300 ? 1 : size / 10) : 2 * PADDING * half;
  return [Math.max(low - room, -Number.MAX_VALUE), Math.min(high + room, Number.MAX_VALUE)];
}

const halfOf = ([low, high]) => high / 2 - low / 2;

/** A range zoomed about its middle. */
function scaled([low, high], factor) {
  const [middle, half] = [low / 2 + high / 2, halfOf([low, high]) * factor];
  const range = [middle - half, middle + half];
  return range.every(Number.isFinite) && half > Math.abs(middle) * 1e-12 ? range : [low, high];
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** The round values of a vertical axis of that height, each with its text. */
function yTicks(range, height) {
  const half = halfOf(range);
  const step = niceStep((2 * half < Infinity ? 2 * half : Number.MAX_VALUE) / clamp(Math.floor(height / 32), 2, 8));
  return multiples(...range, step).map((value) => [value, tickText(value, step)]);
}

// ----- pixels

/** The colours of a view's page. @param {HTMLElement} root @param {string} quiet the colour of labels */
function plotTheme(root, quiet) {
  const style = getComputedStyle(root);
  const [red, green, blue] = (style.backgroundColor.match(/[\d.]+/g) ?? ["255", "255", "255"]).map(Number);
  const dark = 0.299 * red + 0.587 * green + 0.114 * blue < 128;
  return { text: style.color, quiet, dark, back: style.backgroundColor, grid: dark ? "#ffffff1f" : "#0000001a", edge: dark ? "#ffffff4d" : "#00000040" };
}

/** The colour of the line of that number. */
function lineColour(number, { dark }) {
  const colours = dark ? COLOURS.dark : COLOURS.light;
  return colours[number % colours.length];
}

/** An empty context in CSS pixels, sharp on any screen; null for a canvas that is not laid out. */
function freshContext(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) return null;
  const density = window.devicePixelRatio || 1;
  const size = [Math.round(width * density), Math.round(height * density)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** Where values lie in an area. Far outside, a canvas loses precision. */
function scaleTo(area, [low, high], begin, end) {
  const half = halfOf([low, high]);
  return {
    toX: (secs) => area.left + (area.width * (secs - begin)) / (end - begin),
    toY: (value) => clamp(area.top + area.height * (1 - (value / 2 - low / 2) / half), -4000, 4000),
  };
}

/** The frame of a plot; with a range also its scales, whose times are counted from `zero`. */
function drawAxes(context, style, area, { begin, end, zero, isNow, range, toX, toY }) {
  context.font = PLOT_FONT;
  context.lineWidth = 1;
  context.fillStyle = style.quiet;
  context.strokeStyle = style.edge;
  context.strokeRect(area.left + 0.5, area.top + 0.5, area.width - 1, area.height - 1);
  if (!range) return;
  context.strokeStyle = style.grid;
  context.beginPath();
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const [value, text] of yTicks(range, area.height + 28)) {
    const y = Math.round(toY(value)) + 0.5;
    if (y < area.top || y > area.top + area.height + 1) continue;
    context.moveTo(area.left, y);
    context.lineTo(area.left + area.width, y);
    context.fillText(text, area.left - 6, clamp(y, area.top + 4, area.top + area.height - 2), area.left - 8);
  }
  const step = timeStep((end - begin) / clamp(Math.floor(area.width / 90), 2, 10));
  context.textBaseline = "alphabetic";
  context.textAlign = "center";
  for (const secs of multiples(begin - zero, end - zero, step)) {
    const x = toX(zero + secs);
    context.moveTo(Math.round(x) + 0.5, area.top);
    context.lineTo(Math.round(x) + 0.5, area.top + area.height);
    const text = timeText(secs, step, isNow);
    const room = context.measureText(text).width / 2;
    context.fillText(text, clamp(x, room + 2, area.left + area.width + 8 - room), area.top + area.height + 15);
  }
  context.stroke();
}

/** One line of the columns of a topic; `info` has its number, and whether it holds its values. */
function drawLine(context, style, { columns, line, info }, begin, end, toX, toY) {
  context.strokeStyle = lineColour(info.number, style);
  context.lineWidth = 1.5;
  context.lineJoin = context.lineCap = "round";
  context.setLineDash(DASHES[Math.floor(info.number / COLOURS.light.length) % DASHES.length]);
  context.beginPath();
  let lastY = null; // null where the pen is up
  let x = 0;
  let place = Math.max(0, placeOf(columns, begin) - 1);
  for (; place < columns.length; place++) {
    const { secs, values, joined } = columns[place];
    const [first, minimum, maximum, last] = [FIRST, MINIMUM, MAXIMUM, LAST].map((kind) => values[4 * line + kind]);
    if (first !== first) { // NaN
      lastY = null;
      continue;
    }
    x = toX(secs);
    const y = toY(first);
    if (joined[line] && lastY !== null) {
      if (info.step) context.lineTo(x, lastY);
      context.lineTo(x, y);
    } else {
      context.moveTo(x, y);
      context.lineTo(x + 0.01, y); // a single value is a dot
    }
    if (minimum !== maximum) {
      context.lineTo(x, toY(minimum));
      context.lineTo(x, toY(maximum));
      context.lineTo(x, toY(last));
    }
    lastY = toY(last);
    if (secs > end) break;
  }
  // A boolean holds its value until the next one.
  if (info.step && !info.ended && lastY !== null && place === columns.length) context.lineTo(toX(end), lastY);
  context.stroke();
  context.setLineDash([]);
}
