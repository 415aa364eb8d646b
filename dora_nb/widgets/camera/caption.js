// The line below the picture of a CameraView, and its details, as texts. Used by camera.js.

const MAX_AGE_MS = 3600e3;
const MAX_LEGEND = 8;

/** A duration or an age as text; "?" if the sender's clock does not agree with ours. */
function duration(ms) {
  if (ms === null || !(ms >= 0) || ms > MAX_AGE_MS) return "?";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60e3 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60e3)} min`;
}

/** The places where messages were dropped, most first, as rows of text. */
function dropRows(places) {
  const lost = places.filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  if (!lost.length) return [["drops", "no drops"]];
  return lost.map(([place, count]) => [place, `${count} dropped`]);
}

const percentOf = (share) => (share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`);

/** What matters first. */
function figuresText(page, state) {
  const frame = page.last?.frame;
  const figures = [page.model.get("topic")];
  if (!frame) return figures[0];
  if (state === "running" || state === "error") {
    figures.push(`${page.framesPerSecond().toFixed(0)} fps`, `age ${duration(page.ageMs)}`);
  }
  if (frame.boxes) figures.push(boxesText(page, frame));
  const [kind, lagMs] = furthestBehind(frame);
  // Picture and boxes that one node sends one after the other are not behind each other in what is shown.
  if (kind && (lagMs === null || Math.round(lagMs) !== 0)) figures.push(lagText(page, kind, lagMs));
  figures.push(...(frame.notes ?? []));
  const { events } = page.status;
  if (page.numPicks && events && !events.read) figures.push(`${events.topic}: ${events.text}`);
  const { bad_boxes: badBoxes, bad_labels: badLabels, bad_marks: badMarks } = page.status;
  if (badBoxes) figures.push(`${counted(badBoxes, "bad box", "bad boxes")} left out`);
  if (badMarks) figures.push(`${counted(badMarks, "bad point", "bad points")} left out`);
  if (badLabels) figures.push(`${counted(badLabels, "label", "labels")} not UTF-8`);
  if (page.broken) figures.push(`${page.broken} damaged`);
  return figures.join(" · ");
}

function boxesText(page, frame) {
  const [shown, all] = [page.shownBoxes().length, frame.boxes.length];
  return shown === all ? counted(all, "box", "boxes") : `${shown} of ${counted(all, "box", "boxes")}`;
}

/** The overlay that is furthest behind its frame, and how far; an unknown time (null) is the furthest. */
function furthestBehind(frame) {
  const overlayOf = (kind) => (kind === "boxes" ? frame.boxes && frame : frame[kind]);
  const lags = OVERLAYS.map((kind) => [kind, overlayOf(kind)])
    .filter(([, overlay]) => overlay)
    .map(([kind, { lag }]) => [kind, lag]);
  return lags.sort(([, one], [, other]) => (other ?? Infinity) - (one ?? Infinity) || 0)[0] ?? [];
}

function lagText(page, kind, lagMs) {
  if (lagMs < 0) return `${kind} ${duration(-lagMs)} ahead`;
  const behind = `${kind} ${duration(lagMs)} behind`;
  // Without stamps nothing would be found for any frame.
  if (lagMs === null || page.ownBoxes()) return behind;
  return `${behind}; press s to show ${kind === "mask" ? "it on its own frame" : "them on their own frames"}`;
}

/** What explains the line: name and value. */
function detailRows(page, kinds) {
  const { frame, bitmap } = page.last;
  const rows = [["picture", `${frame.w || bitmap.width} x ${frame.h || bitmap.height}`]];
  if (kinds.length) {
    const way = page.ownBoxes() ? "on their own frames" : "the newest, on the newest picture";
    const chosen = page.model.get("sync") === "auto" ? " (chosen by their delay)" : "";
    rows.push([kinds.join(", "), way + chosen]);
  }
  rows.push(...dropRows([...(page.status.drops ?? []), ["this page", page.dropped]]));
  const { mask } = page.shownOverlays();
  if (mask?.legend.length) {
    const areas = mask.legend.slice(0, MAX_LEGEND).map(([label, , share]) => `${label} ${percentOf(share)}`);
    rows.push(["areas", areas.join(", ")]);
  }
  if (page.status.events) {
    const { topic, sent, text } = page.status.events;
    rows.push([topic, `${counted(sent, "event", "events")} sent; ${text}`]);
  }
  const { unmatched } = page.status;
  const what = kinds.length > 1 ? "overlays" : kinds[0];
  if (unmatched) rows.push(["without their frame", `${counted(unmatched, "message", "messages")} with ${what}`]);
  return rows;
}
