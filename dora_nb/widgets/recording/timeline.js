// The timeline of RecordingView: its scale, lanes with gaps, and events. Used by recording.js.
//
// page.js, the plot's canvas.js and the camera's drawing.js are prepended to it.

const AXIS_HEIGHT = 20;
const MARKS_HEIGHT = 18;
const LANE_HEIGHT = 18;
const TIMELINE_RIGHT = 10;
const MARK_ROOM = 16; // events that are nearer to each other share a button
const MARK_NAMES = { failure: "failure", edit: "edit", param: "parameter" };
const MARK_GLYPHS = { failure: "M8 1l7 13H1zM7.2 6v4h1.6V6zM7.2 11v1.6h1.6V11z", edit: "M2 14l1-4 8-8 3 3-8 8z", param: "M8 2l6 6-6 6-6-6z" };
const MARK_ORDER = ["failure", "edit", "param"];

/** The room for names on the left, the same for the timeline and the plots, so that their times lie below each other. */
const gutterOf = (width) => (width < 480 ? 78 : 132);

/** Minutes and seconds; `secs` with so many digits behind the point. */
function spanText(secs, digits) {
  const shown = Math.max(0, secs);
  const whole = Number(shown.toFixed(digits));
  if (whole < 60) return `${whole.toFixed(digits)} s`;
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = (whole % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** Events that would cover each other on the timeline, as one each: the most serious names it. */
function groupedMarks(marks, toX, left, right) {
  const groups = [];
  for (const [secs, kind, text] of marks) {
    const x = toX(secs);
    if (x < left - 1 || x > right + 1) continue;
    const last = groups[groups.length - 1];
    if (last && x - last.x < MARK_ROOM) {
      last.members.push([secs, kind, text]);
      if (MARK_ORDER.indexOf(kind) < MARK_ORDER.indexOf(last.kind)) Object.assign(last, { kind, secs, text });
    } else {
      groups.push({ x, secs, kind, text, members: [[secs, kind, text]] });
    }
  }
  return groups;
}

/** Text that fits into a width; the end of a topic's name says more than its beginning. */
function fittedText(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let from = 1;
  while (from < text.length && context.measureText(`…${text.slice(from)}`).width > width) from++;
  return `…${text.slice(from)}`;
}

/** Draws the scale of times and a lane for each topic: where it has messages, and hatched where it was silent. */
function drawTimeline(context, style, { width, left, begin, end, topics, lanes, cursor }) {
  const right = width - TIMELINE_RIGHT;
  const toX = (secs) => left + ((right - left) * (secs - begin)) / (end - begin);
  const top = MARKS_HEIGHT + AXIS_HEIGHT;
  const bottom = top + topics.length * LANE_HEIGHT;
  context.font = PLOT_FONT;
  context.fillStyle = style.quiet;
  context.strokeStyle = style.grid;
  context.lineWidth = 1;
  context.textBaseline = "alphabetic";
  context.textAlign = "center";
  context.beginPath();
  const step = timeStep((end - begin) / clamp(Math.floor((right - left) / 80), 2, 12));
  for (const secs of multiples(begin, end, step)) {
    const x = Math.round(toX(secs)) + 0.5;
    context.moveTo(x, top - 4);
    context.lineTo(x, bottom);
    const text = timeText(secs, step, false);
    const room = context.measureText(text).width / 2;
    context.fillText(text, clamp(x, left + room, right - room + 6), MARKS_HEIGHT + 12);
  }
  context.stroke();
  context.textBaseline = "middle";
  topics.forEach((topic, row) => {
    const middle = top + (row + 0.5) * LANE_HEIGHT;
    context.textAlign = "right";
    context.fillStyle = style.text;
    context.fillText(fittedText(context, topic, left - 14), left - 8, middle);
    const lane = lanes.get(topic);
    if (lane) drawLane(context, style, lane, { toX, left, right, middle });
  });
  const x = toX(cursor);
  if (x < left - 1 || x > right + 1) return;
  drawCursor(context, style, x, MARKS_HEIGHT, bottom);
  context.fillStyle = style.cursor;
  context.beginPath();
  context.moveTo(x - 6, MARKS_HEIGHT);
  context.lineTo(x + 6, MARKS_HEIGHT);
  context.lineTo(x, MARKS_HEIGHT + 7);
  context.fill();
}

function drawLane(context, style, { counts, gaps, begin, end }, { toX, left, right, middle }) {
  const [top, height] = [middle - 5, 10];
  const width = (end - begin) / Math.max(counts.length, 1);
  const most = Math.max(1, ...counts);
  context.save();
  context.beginPath();
  context.rect(left, top - 1, right - left, height + 2);
  context.clip();
  context.fillStyle = style.lane;
  counts.forEach((count, at) => {
    if (!count) return;
    const from = toX(begin + at * width);
    context.globalAlpha = 0.65 + 0.35 * (count / most);
    context.fillRect(from, top, Math.max(1.5, toX(begin + (at + 1) * width) - from + 0.3), height);
  });
  context.globalAlpha = 1;
  for (const [from, to] of gaps) {
    const [x, length] = [toX(from), Math.max(2, toX(to) - toX(from))];
    context.fillStyle = style.back;
    context.fillRect(x, top, length, height);
    context.strokeStyle = style.gap;
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, top + 0.5, Math.max(1, length - 1), height - 1);
    context.save();
    context.beginPath();
    context.rect(x, top, length, height);
    context.clip();
    context.beginPath();
    const [first, last] = [Math.max(x, left) - height, Math.min(x + length, right)];
    for (let at = first - (first % 5); at < last; at += 5) {
      context.moveTo(at, top + height);
      context.lineTo(at + height, top);
    }
    context.stroke();
    context.restore();
  }
  context.restore();
}

function drawCursor(context, style, x, top, bottom) {
  context.strokeStyle = style.cursor;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x, top);
  context.lineTo(x, bottom);
  context.stroke();
}
