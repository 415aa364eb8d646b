// What CameraView draws on a picture: boxes, points, tracks and a mask. Used by camera.js.
//
// All coordinates are pixels of the frame. A `place` says where they are on the canvas: {scale, left, top,
// width, height}, with the part of the picture that is shown at left and top, and the size of the canvas.

const FADE_FROM_MS = 300;
const FADE_TO_MS = 1500;
const FADED_ALPHA = 0.4;
const MASK_ALPHA = 0.45;
const TAG_TEXT = "#10151c";
const SHADOW = "rgba(0, 0, 0, 0.35)"; // keeps a box visible on something of its own colour
const OVERLAYS = ["boxes", "points", "mask", "tracks"];
const TAU = 2 * Math.PI;

/** @typedef {[number, number, number, number, number | null, string, string, number?]} Box
 *   x1 y1 x2 y2 score label colour row; the score is null if it is unknown */
/** @typedef {{scale: number, left: number, top: number, width: number, height: number}} Place */

// ----- texts

function tagText(label, score) {
  const text = label.replace(/[\u0000-\u001f\u007f]/g, " ");
  const shown = text.length > 40 ? `${text.slice(0, 39)}…` : text;
  return [shown, score?.toFixed(2)].filter(Boolean).join(" ");
}

/** How strongly an overlay is drawn that came, or whose frame was taken, so long ago. */
function fadedAlpha({ age, lag }) {
  const ageMs = Math.max(age ?? 0, lag ?? 0);
  if (!(ageMs > FADE_FROM_MS)) return 1;
  const faded = Math.min(1, (ageMs - FADE_FROM_MS) / (FADE_TO_MS - FADE_FROM_MS));
  return 1 - faded * (1 - FADED_ALPHA);
}

const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;

// ----- what the kernel sent

/** A copy, since the front end's buffer may begin anywhere. */
const floatsOf = (buffer) => new Float32Array(bytesOf(buffer).slice().buffer);

/**
 * Puts the buffers of a frame's overlays where they belong. `known` is the last mask, which is not painted
 * again if it is the same. An overlay without its buffer is left out.
 */
function unpackOverlays(message, buffers, known) {
  const { boxes, lag, age, points, mask, tracks } = message;
  const found = { boxes, lag, age, points: undefined, mask: undefined, tracks: undefined };
  const bufferOf = (overlay) => overlay && buffers?.[overlay.buffer];
  if (bufferOf(points)) found.points = { ...points, values: floatsOf(bufferOf(points)) };
  if (bufferOf(tracks)) found.tracks = { ...tracks, places: floatsOf(bufferOf(tracks)) };
  if (bufferOf(mask)) {
    const isKnown = known?.number === mask.number;
    found.mask = { ...mask, ...(isKnown ? paintOf(known) : paintMask(mask, bytesOf(bufferOf(mask)))) };
  }
  return found;
}

const paintOf = ({ places, canvas }) => ({ places, canvas });

/** Paints a mask of runs: all lengths, and behind them for each run its place in the legend, 0 for none. */
function paintMask({ width, height, legend }, bytes) {
  const count = bytes.length / 5;
  const lengths = new Uint32Array(bytes.slice(0, 4 * count).buffer);
  const colours = [0, ...legend.map(([, colour]) => wordOf(colour))];
  const places = new Uint8Array(width * height);
  const words = new Uint32Array(width * height);
  let at = 0;
  for (let run = 0; run < count; run++) {
    const place = bytes[4 * count + run];
    if (place) {
      places.fill(place, at, at + lengths[run]);
      words.fill(colours[place] ?? 0, at, at + lengths[run]);
    }
    at += lengths[run];
  }
  const canvas = element("canvas", "");
  [canvas.width, canvas.height] = [width, height];
  const pixels = new ImageData(new Uint8ClampedArray(words.buffer), width, height);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return { places, canvas };
}

/** An opaque pixel of "#rrggbb", as the bytes of an image lie in memory. */
function wordOf(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** The label of a mask at a place, from 0 to 1; "" where there is none. */
function maskLabelAt(mask, x, y) {
  const column = Math.min(mask.width - 1, Math.floor(x * mask.width));
  const row = Math.min(mask.height - 1, Math.floor(y * mask.height));
  return mask.legend[mask.places[row * mask.width + column] - 1]?.[0] ?? "";
}

/** The smallest box around a place, which is the one that a person can only mean there. */
function boxAt(boxes, x, y) {
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  const around = boxes.filter(([x1, y1, x2, y2]) => x >= x1 && x <= x2 && y >= y1 && y <= y2);
  return around.reduce((best, each) => (best && area(best) <= area(each) ? best : each), null);
}

// ----- drawing

const onCanvas = ({ scale, left, top }, x, y) => [(x - left) * scale, (y - top) * scale];

/** Strokes the path of the context twice, so that it can be seen on any colour. */
function strokeOutlined(context, colour, width = 2) {
  for (const [lineWidth, style] of [[width + 2, SHADOW], [width, colour]]) {
    context.lineWidth = lineWidth;
    context.strokeStyle = style;
    context.stroke();
  }
}

/** @param {{width: number, height: number, canvas: HTMLCanvasElement}} mask @param {Place} place */
function drawMask(context, mask, place, frame, alpha) {
  const [toColumns, toRows] = [mask.width / frame.width, mask.height / frame.height];
  const part = [place.width / place.scale, place.height / place.scale];
  context.globalAlpha = MASK_ALPHA * alpha;
  context.imageSmoothingEnabled = false;
  context.drawImage(
    mask.canvas,
    ...[place.left * toColumns, place.top * toRows, part[0] * toColumns, part[1] * toRows],
    ...[0, 0, place.width, place.height],
  );
  context.globalAlpha = 1;
}

/**
 * Draws the paths: the older a piece is, the thinner. Returns the tags of their heads as [text, left, top,
 * colour], which go above all else. @param {Place} place
 */
function drawTracks(context, { paths, places }, place, alpha) {
  const tags = [];
  let first = 0;
  context.globalAlpha = alpha;
  context.lineCap = context.lineJoin = "round";
  for (const [number, label, colour, count] of paths) {
    const points = [];
    for (let at = first; at < first + count; at++) {
      points.push(onCanvas(place, places[2 * at], places[2 * at + 1]));
    }
    first += count;
    for (const [from, to, width] of [[0, 0.5, 1], [0.5, 1, 2.5]]) {
      context.beginPath();
      const piece = points.slice(Math.floor(from * (count - 1)), Math.floor(to * (count - 1)) + 1);
      piece.forEach((point, at) => (at ? context.lineTo(...point) : context.moveTo(...point)));
      strokeOutlined(context, colour, width);
    }
    const [x, y] = points[count - 1];
    context.beginPath();
    context.arc(x, y, 4, 0, TAU);
    context.fillStyle = colour;
    context.fill();
    strokeOutlined(context, TAG_TEXT, 1);
    tags.push([`${tagText(label)} #${number}`.trim(), x + 6, y - 9, colour]);
  }
  context.globalAlpha = 1;
  return tags;
}

/** Draws the points that the lowest score leaves, and the lines between them. @param {Place} place */
function drawPoints(context, { values, lines, colours, per_object: perObject }, place, minScore, alpha) {
  const isShown = (at) => !Number.isNaN(values[3 * at]) && !(values[3 * at + 2] < minScore);
  const pointOf = (at) => onCanvas(place, values[3 * at], values[3 * at + 1]);
  const colourOf = (at) => colours[Math.floor(at / perObject)] ?? colours[0];
  context.globalAlpha = alpha;
  context.lineCap = "round";
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const [from, to] = [lines[at], lines[at + 1]];
    if (!isShown(from) || !isShown(to)) continue;
    context.beginPath();
    context.moveTo(...pointOf(from));
    context.lineTo(...pointOf(to));
    strokeOutlined(context, colourOf(from));
  }
  for (let at = 0; 3 * at < values.length; at++) {
    if (!isShown(at)) continue;
    context.beginPath();
    context.arc(...pointOf(at), 3.5, 0, TAU);
    context.fillStyle = colourOf(at);
    context.fill();
    context.lineWidth = 1;
    context.strokeStyle = TAG_TEXT;
    context.stroke();
  }
  context.globalAlpha = 1;
}

/**
 * Draws all boxes before all tags, so that no box crosses the text of its neighbour. With an `alpha`
 * below 1 the boxes fade, but their tags only become dark, since faded text cannot be read.
 * @param {Box[]} boxes @param {Place} place @param {Box | null} marked the one below the pointer
 */
function drawBoxes(context, boxes, place, alpha, marked = null) {
  for (const box of boxes) {
    const [x1, y1, x2, y2, , , colour] = box;
    const [left, top] = onCanvas(place, x1, y1);
    context.globalAlpha = alpha;
    context.beginPath();
    context.rect(left, top, (x2 - x1) * place.scale, (y2 - y1) * place.scale);
    strokeOutlined(context, colour, box === marked ? 4 : 2);
    if (box !== marked) continue;
    context.globalAlpha = 0.2;
    context.fillStyle = colour;
    context.fill();
  }
  context.globalAlpha = 1;
  for (const [x1, y1, , , score, label, colour] of boxes) {
    const [left, top] = onCanvas(place, x1, y1);
    const above = top - 18 >= 0 ? top - 18 : Math.max(0, top);
    drawTag(context, tagText(label, score), left - 1, above, colour, place.width, alpha);
  }
}

/** Draws a text on a ground of its colour; dark if it has faded. It stays within the canvas. */
function drawTag(context, text, left, top, colour, width, alpha) {
  if (!text) return;
  context.font = "600 12px system-ui, sans-serif";
  context.textBaseline = "middle";
  const tagWidth = context.measureText(text).width + 8;
  const begin = Math.max(0, Math.min(left, width - tagWidth));
  context.globalAlpha = 1;
  context.fillStyle = alpha < 1 ? TAG_TEXT : colour;
  context.fillRect(begin, top, tagWidth, 17);
  context.fillStyle = alpha < 1 ? colour : TAG_TEXT;
  context.fillText(text, begin + 4, top + 9);
}

/**
 * Draws what the settings show of a frame's overlays, what covers most first.
 * @param {any} shown boxes, points, mask and tracks @param {Place} place
 * @param {{width: number, height: number}} frame
 */
function drawOverlays(context, shown, place, frame, { minScore, marked }) {
  const { boxes, points, mask, tracks, lag, age } = shown;
  if (mask) drawMask(context, mask, place, frame, fadedAlpha(mask));
  const tags = tracks ? drawTracks(context, tracks, place, fadedAlpha(tracks)) : [];
  if (points) drawPoints(context, points, place, minScore, fadedAlpha(points));
  drawBoxes(context, boxes, place, fadedAlpha({ lag, age }), marked);
  for (const [text, left, top, colour] of tags) {
    drawTag(context, text, left, top, colour, place.width, fadedAlpha(tracks));
  }
}
