// The page's side of CameraView. The protocol is described at the top of camera.py.
//
// A Stream belongs to a model: it decodes and acknowledges. A View belongs to an output: it draws. Data
// from the dataflow is only drawn on a canvas or set as textContent, so it cannot become markup.

const ACK_MS = 250;
const REFRESH_MS = 500;
// Until a front end has made a subshell, a page's messages wait behind the cells that were run before.
const GREET_AGAIN_MS = 500;
const SILENCE_MS = 6000; // the kernel sends a status at least every 2 s
const MAX_AGE_MS = 3600e3;
const FADE_FROM_MS = 300;
const FADE_TO_MS = 1500;
const FADED_ALPHA = 0.4;
const SCORE_STEP = 0.05;
// The value below the pointer is asked of the kernel: one question at a time, at most ten a second.
const PIXEL_MS = 100;
const PIXEL_LOST_MS = 2000;
const PLACEHOLDER = [640, 480];
const TAG_TEXT = "#10151c";
const SHADOW = "rgba(0, 0, 0, 0.35)"; // keeps a box visible on something of its own colour

/** @typedef {[number, number, number, number, number | null, string, string]} Box
 *   x1 y1 x2 y2 score label colour; the score is null if it is unknown */
/** @typedef {{seq: number, t: number | null, mime: string, w: number, h: number, boxes: Box[] | null,
 *             lag: number | null, age: number | null}} Frame */

// ----- pure

/** A front end passes a DataView, an ArrayBuffer, or a view into a larger buffer. */
function bytesOf(buffer) {
  if (buffer instanceof ArrayBuffer) return new Uint8Array(buffer);
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/** A duration or an age as text; "?" if the sender's clock does not agree with ours. */
function duration(ms) {
  if (ms === null || !(ms >= 0) || ms > MAX_AGE_MS) return "?";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60e3 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60e3)} min`;
}

function tagText(label, score) {
  const text = label.replace(/[\u0000-\u001f\u007f]/g, " ");
  const shown = text.length > 40 ? `${text.slice(0, 39)}…` : text;
  return [shown, score?.toFixed(2)].filter(Boolean).join(" ");
}

/** How strongly boxes are drawn that came, or whose frame was taken, so long ago. */
function fadedAlpha(ageMs) {
  if (!(ageMs > FADE_FROM_MS)) return 1;
  const faded = Math.min(1, (ageMs - FADE_FROM_MS) / (FADE_TO_MS - FADE_FROM_MS));
  return 1 - faded * (1 - FADED_ALPHA);
}

const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;

/** The places where messages were dropped, most first, as rows of text. */
function dropRows(places) {
  const lost = places.filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  if (!lost.length) return [["drops", "no drops"]];
  return lost.map(([place, count]) => [place, `${count} dropped`]);
}

/** The name of a file for a snapshot taken now: "camera_image_2026-11-30_12-00-00.png". */
function snapshotName(topic) {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60e3).toISOString();
  const time = local.slice(0, 19).replace("T", "_").replaceAll(":", "-");
  return `${topic.replace(/[^\w.-]+/g, "_")}_${time}.png`;
}

/**
 * Draws all boxes before all tags, so that no box crosses the text of its neighbour. With an `alpha`
 * below 1 the boxes fade, but their tags only become dark, since faded text cannot be read.
 */
function drawBoxes(context, boxes, scale, width, alpha) {
  context.globalAlpha = alpha;
  for (const [x1, y1, x2, y2, , , colour] of boxes) {
    const edges = [x1 * scale, y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale];
    for (const [lineWidth, style] of [[4, SHADOW], [2, colour]]) {
      context.lineWidth = lineWidth;
      context.strokeStyle = style;
      context.strokeRect(...edges);
    }
  }
  context.globalAlpha = 1;
  context.font = "600 12px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (const [x1, y1, , , score, label, colour] of boxes) {
    const text = tagText(label, score);
    if (!text) continue;
    const tagWidth = context.measureText(text).width + 8;
    const top = y1 * scale - 18 >= 0 ? y1 * scale - 18 : Math.max(0, y1 * scale);
    const left = Math.max(0, Math.min(x1 * scale - 1, width - tagWidth));
    context.fillStyle = alpha < 1 ? TAG_TEXT : colour;
    context.fillRect(left, top, tagWidth, 17);
    context.fillStyle = alpha < 1 ? colour : TAG_TEXT;
    context.fillText(text, left + 4, top + 9);
  }
}

// ----- one model

class Stream {
  constructor(model) {
    this.model = model;
    this.client = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
    this.numSent = 0;
    this.views = new Set();
    this.status = { state: "waiting", reason: "", drops: [], unmatched: 0 };
    /** @type {{bitmap: ImageBitmap, frame: Frame} | null} */
    this.last = null;
    this.pending = null;
    this.takenSeq = 0; // of the newest frame received, drawn or not
    this.ackSeq = 0;
    this.drawn = this.dropped = this.broken = 0;
    this.drawTimes = [];
    this.ageMs = null;
    this.lastMessageMs = performance.now();
    this.pumping = this.closed = false;
    this.frozen = false; // a person paused this page: frames under way must not be drawn either
    this.disconnected = false;
    this.detailsOpen = false;
    this.screenView = null; // the output that is shown in full screen
    this.pixel = null; // the kernel's last answer: {x, y, text}
    this.pixelWanted = null; // the place to ask for next
    this.pixelAskedMs = null; // when the question was sent that has no answer yet
    this.focus = null; // the focused part, to restore it when the output is made anew
    this.onMessage = (message, buffers) => this.receive(message, buffers);
    this.onPaused = () => this.pausedChanged();
    this.onLife = () => this.noteDisconnected();
    this.onVisibility = () => this.reportVisible();
    this.onLeave = () => this.send({ type: "visible", count: 0 });
    model.on("msg:custom", this.onMessage);
    model.on("change:paused", this.onPaused);
    model.on("comm_live_update", this.onLife);
    document.addEventListener("visibilitychange", this.onVisibility);
    window.addEventListener("pagehide", this.onLeave);
    this.greet(GREET_AGAIN_MS);
    // A model without an output would never report that it is not visible.
    this.reportTimer = setTimeout(() => this.reportVisible(), 2000);
    this.refreshTimer = setInterval(() => this.refresh(), REFRESH_MS);
  }

  get paused() {
    return this.model.get("paused");
  }

  /** Says hello until the kernel answers, at intervals that double. */
  greet(patienceMs) {
    this.greetTimer = setTimeout(() => this.greet(2 * patienceMs), patienceMs);
    this.send({ type: "hello" });
  }

  receive(message, buffers) {
    if (message?.type === "status" && message.greeting) clearTimeout(this.greetTimer);
    this.lastMessageMs = performance.now();
    this.disconnected = false;
    if (message?.type === "frame") this.receiveFrame(message, buffers?.[0]);
    else if (message?.type === "boxes") this.receiveBoxes(message);
    else if (message?.type === "pixel") this.receivePixel(message);
    else if (message?.type === "status") {
      this.status = message;
      this.refresh();
    }
  }

  receiveFrame(frame, buffer) {
    if (!buffer || !(frame.seq > this.takenSeq)) return; // older than the newest, or sent again
    this.takenSeq = frame.seq;
    if (this.frozen) return this.ack(frame.seq);
    if (this.pending) this.dropped++; // the newest wins
    this.pending = { frame, buffer };
    this.pump();
  }

  receiveBoxes({ seq, boxes, lag, age }) {
    if (this.last?.frame.seq !== seq || this.frozen) return;
    Object.assign(this.last.frame, { boxes, lag, age });
    for (const view of this.views) view.drawBoxes();
  }

  /** Decodes and draws one frame at a time, in step with the screen. Waits while no output is visible. */
  async pump() {
    if (this.pumping) return;
    this.pumping = true;
    while (this.pending && !this.closed && this.visibleCount() > 0) {
      const { frame, buffer } = this.pending;
      this.pending = null;
      try {
        const blob = new Blob([bytesOf(buffer)], { type: frame.mime });
        const bitmap = await createImageBitmap(blob);
        await new Promise(requestAnimationFrame);
        this.show(bitmap, frame);
      } catch {
        this.broken++; // reported with the next ack; the next frame may be whole
      }
      this.ack(frame.seq);
    }
    this.pumping = false;
  }

  show(bitmap, frame) {
    if (this.closed || this.frozen) return bitmap.close();
    const isFirst = !this.last;
    this.last?.bitmap.close(); // else decoded pictures pile up until a garbage collection
    this.last = { bitmap, frame };
    for (const view of this.views) view.draw();
    if (isFirst) this.refresh();
    this.drawn++;
    const now = performance.now();
    this.drawTimes.push(now);
    while (now - this.drawTimes[0] > 2000) this.drawTimes.shift();
    const ageMs = frame.t === null ? null : Date.now() - frame.t;
    const usual = this.ageMs !== null && ageMs !== null && Math.abs(ageMs - this.ageMs) < 1000;
    this.ageMs = usual ? this.ageMs + 0.2 * (ageMs - this.ageMs) : ageMs;
  }

  /** Whether each frame is shown with its own boxes. */
  ownBoxes() {
    const sync = this.model.get("sync");
    return typeof sync === "boolean" ? sync : Boolean(this.status.own_boxes);
  }

  /** The boxes of the last frame that the settings show. */
  shownBoxes() {
    if (!this.model.get("show_boxes")) return [];
    const minScore = this.model.get("min_score");
    return (this.last?.frame.boxes ?? []).filter(([, , , , score]) => score === null || score >= minScore);
  }

  /** Asks for the value of a pixel of the picture on the screen. @param {{x: number, y: number} | null} place */
  wantPixel(place) {
    this.pixelWanted = place;
    if (!place) {
      clearTimeout(this.pixelTimer);
      this.pixelTimer = undefined;
      this.pixel = null;
      for (const view of this.views) view.drawPixel();
    } else if (this.pixelTimer === undefined) this.askPixel();
  }

  askPixel() {
    const now = performance.now();
    const waiting = this.pixelAskedMs !== null && now - this.pixelAskedMs < PIXEL_LOST_MS;
    if (this.pixelWanted && this.last && !waiting) {
      const place = this.pixelWanted;
      this.pixelWanted = null;
      this.pixelAskedMs = now;
      this.send({ type: "pixel", seq: this.last.frame.seq, ...place });
    }
    // Only a pointer that has moved meanwhile makes another question.
    this.pixelTimer = setTimeout(() => {
      this.pixelTimer = undefined;
      if (this.pixelWanted) this.askPixel();
    }, PIXEL_MS);
  }

  receivePixel({ client, x, y, text }) {
    if (client !== this.client) return; // of another page's pointer
    this.pixelAskedMs = null;
    this.pixel = text === null ? null : { x, y, text };
    for (const view of this.views) view.drawPixel();
  }

  framesPerSecond() {
    const times = this.drawTimes;
    if (times.length < 2 || performance.now() - times[times.length - 1] > 2000) return 0;
    return ((times.length - 1) * 1000) / (times[times.length - 1] - times[0]);
  }

  /** Acknowledges rarely, with totals: each message to the kernel costs a round of busy and idle. */
  ack(seq) {
    this.ackSeq = Math.max(this.ackSeq, seq);
    if (this.ackTimer !== undefined) return;
    const wait = Math.max(0, ACK_MS - (performance.now() - (this.ackedMs ?? -ACK_MS)));
    this.ackTimer = setTimeout(() => {
      this.ackTimer = undefined;
      this.ackedMs = performance.now();
      const { ackSeq: seq, drawn, dropped, broken } = this;
      this.send({ type: "ack", seq, drawn, dropped, broken });
    }, wait);
  }

  send(message) {
    if (this.closed) return;
    try {
      this.model.send({ ...message, client: this.client, n: ++this.numSent });
    } catch {
      // The kernel has ended; `condition` shows that.
    }
  }

  visibleCount() {
    if (document.hidden) return 0;
    return [...this.views].filter((view) => view.visible).length;
  }

  reportVisible() {
    const count = this.visibleCount();
    if (count === this.reportedVisible) return;
    // While the view was hidden the kernel sent nothing, which does not count as silence.
    if (count && !this.reportedVisible) this.lastMessageMs = performance.now();
    this.reportedVisible = count;
    this.send({ type: "visible", count });
    if (count) this.pump();
  }

  /** Called for a person, who wants to keep the picture on the screen even if newer ones are under way. */
  togglePause() {
    const paused = !this.paused;
    if (paused && this.last) {
      this.frozen = true;
      this.pending = null;
      this.send({ type: "pause", seq: this.last.frame.seq });
    }
    this.model.set("paused", paused);
    this.model.save_changes();
  }

  pausedChanged() {
    this.frozen &&= this.paused;
    this.drawTimes = [];
    this.refresh();
  }

  /** ipywidgets reports that the comm changed, but not how. If it still lives, the next message shows it. */
  noteDisconnected() {
    this.disconnected = true;
    this.refresh();
  }

  refresh() {
    for (const view of this.views) view.refresh();
  }

  close() {
    this.send({ type: "visible", count: 0 });
    this.closed = true;
    for (const view of [...this.views]) view.close();
    clearTimeout(this.ackTimer);
    clearTimeout(this.pixelTimer);
    clearTimeout(this.greetTimer);
    clearTimeout(this.reportTimer);
    clearInterval(this.refreshTimer);
    this.model.off("msg:custom", this.onMessage);
    this.model.off("change:paused", this.onPaused);
    this.model.off("comm_live_update", this.onLife);
    document.removeEventListener("visibilitychange", this.onVisibility);
    window.removeEventListener("pagehide", this.onLeave);
    this.last?.bitmap.close();
    this.last = this.pending = null;
  }
}

// ----- one output

const SETTINGS = ["show_boxes", "min_score", "sync"];

const ICONS = {
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  resume: "M4.5 2.2 13 8l-8.5 5.8z",
  sync: "M6.4 9.6a2.6 2.6 0 0 1 0-3.7l2.2-2.2a2.6 2.6 0 1 1 3.7 3.7l-.9.9-.9-.9.9-.9a1.3 1.3 0 1 0-1.9-1.9L7.3 6.8a1.3 1.3 0 0 0 0 1.9zM9.6 6.4a2.6 2.6 0 0 1 0 3.7l-2.2 2.2a2.6 2.6 0 1 1-3.7-3.7l.9-.9.9.9-.9.9a1.3 1.3 0 1 0 1.9 1.9l2.2-2.2a1.3 1.3 0 0 0 0-1.9z",
  snapshot: "M5.5 3 6.4 1.8h3.2l.9 1.2H13a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1zM8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zm0 1.3a1.7 1.7 0 1 1 0 3.4 1.7 1.7 0 0 1 0-3.4z",
  fullScreen: "M2 2h4.5v1.4H3.4v3.1H2zM9.5 2H14v4.5h-1.4V3.4H9.5zM2 9.5h1.4v3.1h3.1V14H2zM12.6 9.5H14V14H9.5v-1.4h3.1z",
  boxes: "M2 4.5V2h2.5v1.2H3.2v1.3zM11.5 2H14v2.5h-1.2V3.2h-1.3zM2 11.5h1.2v1.3h1.3V14H2zM12.8 11.5H14V14h-2.5v-1.2h1.3zM5.5 5.5h5v5h-5z",
};

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}

class View {
  constructor(stream, model, el) {
    this.stream = stream;
    this.model = model;
    this.visible = false;
    this.released = false;
    this.build(model.get("topic"), model.get("boxes"));
    el.append(this.root);
    this.listen();
    stream.views.add(this);
    this.draw();
    this.refresh();
    this.restoreFocus();
    this.takeOverScreen();
  }

  build(topic, boxes) {
    this.picture = element("canvas", "dora-picture");
    [this.picture.width, this.picture.height] = PLACEHOLDER;
    this.picture.setAttribute("role", "img");
    this.picture.setAttribute("aria-label", `Live picture of ${topic}`);
    this.overlay = element("canvas", "dora-overlay");
    this.overlay.setAttribute("aria-hidden", "true");
    this.message = element("div", "dora-message");
    this.pixel = element("div", "dora-pixel");
    this.stage = element("div", "dora-stage", this.picture, this.overlay, this.message, this.pixel);

    this.pauseButton = element("button", "dora-button dora-pause");
    this.boxesButton = element("button", "dora-button dora-toggle", icon("boxes"), "Boxes");
    this.boxesButton.title = "Show or hide boxes (b)";
    this.syncButton = element("button", "dora-button dora-sync", icon("sync"), "Sync");
    this.slider = element("input", "dora-slider");
    Object.assign(this.slider, { type: "range", min: 0, max: 1, step: SCORE_STEP });
    this.slider.setAttribute("aria-label", "Lowest score shown");
    this.slider.title = "Lowest score shown ([ and ])";
    this.score = element("span", "dora-score-value");
    const score = element("label", "dora-score", "Score ≥ ", this.score, this.slider);
    this.state = element("span", "dora-state");
    this.state.setAttribute("role", "status");
    this.snapshotButton = element("button", "dora-button dora-snapshot", icon("snapshot"));
    this.snapshotButton.title = "Download the picture with its boxes";
    this.snapshotButton.setAttribute("aria-label", "Snapshot");
    this.screenButton = element("button", "dora-button dora-screen", icon("fullScreen"));
    this.screenButton.title = "Full screen (f)";
    this.screenButton.setAttribute("aria-label", "Full screen");
    this.screenButton.hidden = !document.fullscreenEnabled;
    const bar = element("div", "dora-bar", this.pauseButton);
    if (boxes) bar.append(this.boxesButton, this.syncButton, score);
    bar.append(element("span", "dora-tools", this.snapshotButton, this.screenButton));

    this.figures = element("span", "dora-figures");
    this.detailsButton = element("button", "dora-button dora-more", "Details");
    const caption = element("div", "dora-caption", this.detailsButton, this.state, this.figures);
    this.details = element("dl", "dora-details");
    this.reason = element("div", "dora-reason");
    this.reason.setAttribute("role", "status");
    this.root = element("div", "dora-view", this.stage, bar, caption, this.details, this.reason);
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "group");
    const what = boxes ? `${topic} with boxes of ${boxes}` : topic;
    this.root.setAttribute("aria-label", `Live view of ${what}`);
    this.root.setAttribute("aria-keyshortcuts", boxes ? "Space B S [ ] F" : "Space F");
  }

  listen() {
    this.pauseButton.onclick = () => this.stream.togglePause();
    this.boxesButton.onclick = () => this.set("show_boxes", !this.model.get("show_boxes"));
    this.syncButton.onclick = () => this.set("sync", !this.stream.ownBoxes());
    this.snapshotButton.onclick = () => this.downloadSnapshot();
    this.screenButton.onclick = () => this.toggleFullScreen();
    this.detailsButton.onclick = () => {
      this.stream.detailsOpen = !this.stream.detailsOpen;
      this.stream.refresh();
    };
    this.picture.onpointermove = (event) => this.stream.wantPixel(this.placeOf(event));
    this.picture.onpointerleave = () => this.stream.wantPixel(null);
    this.onScreenChange = () => this.noteFullScreen();
    document.addEventListener("fullscreenchange", this.onScreenChange);
    this.slider.oninput = () => this.model.set("min_score", Number(this.slider.value));
    this.slider.onchange = () => this.model.save_changes();
    this.onSettings = () => {
      this.drawBoxes();
      this.refresh();
    };
    for (const name of SETTINGS) this.model.on(`change:${name}`, this.onSettings);
    // In the capture phase at the window, before a notebook's shortcuts: in JupyterLab "b" inserts a cell.
    this.onKey = (event) => this.handleKey(event);
    window.addEventListener("keydown", this.onKey, true);
    this.root.addEventListener("focusin", ({ target }) => {
      this.stream.focus = { part: target.classList[target.classList.length - 1], leftMs: Infinity };
    });
    this.root.addEventListener("focusout", () => {
      if (this.stream.focus) this.stream.focus.leftMs = performance.now();
    });
    this.watcher = new IntersectionObserver((entries) => {
      this.visible = entries[entries.length - 1].isIntersecting;
      if (!this.visible && !this.root.isConnected) this.releasePixels();
      if (this.visible) {
        this.released = false;
        this.draw();
      }
      this.stream.reportVisible();
    });
    this.watcher.observe(this.picture);
    this.sizer = new ResizeObserver(() => this.drawBoxes());
    this.sizer.observe(this.picture);
  }

  /** Frees 2 MB of pixels of an output that the front end took off the page, perhaps for good. */
  releasePixels() {
    this.released = true;
    this.picture.width = this.overlay.width = 0;
  }

  /** JupyterLab makes an output anew when it gets a still; the keyboard focus must not be lost with it. */
  restoreFocus() {
    const focus = this.stream.focus;
    if (!focus || document.activeElement !== document.body) return;
    if (focus.leftMs !== Infinity && performance.now() - focus.leftMs > 1000) return;
    const part = this.root.querySelector(`.${focus.part}`) ?? this.root;
    requestAnimationFrame(() => part.focus({ preventScroll: true }));
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const path = event.composedPath();
    if (!path.includes(this.root)) return;
    const ownKeys =
      path[0] === this.slider
        ? ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"]
        : path[0] instanceof HTMLButtonElement
          ? [" ", "Enter"]
          : [];
    if (ownKeys.includes(event.key)) return event.stopImmediatePropagation();
    const action = this.actionOf(event.key);
    if (!action) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    action();
  }

  actionOf(key) {
    const withBoxes = Boolean(this.model.get("boxes"));
    if (key === " ") return () => this.pauseButton.onclick();
    if (key === "f" || key === "F") return () => this.toggleFullScreen();
    if (withBoxes && (key === "b" || key === "B")) return () => this.boxesButton.onclick();
    if (withBoxes && (key === "s" || key === "S")) return () => this.syncButton.onclick();
    if (withBoxes && (key === "[" || key === "-")) return () => this.moveScore(-SCORE_STEP);
    if (withBoxes && (key === "]" || key === "+" || key === "=")) return () => this.moveScore(SCORE_STEP);
    return null;
  }

  moveScore(step) {
    const steps = Math.round((this.model.get("min_score") + step) / SCORE_STEP);
    this.set("min_score", Math.min(1, Math.max(0, Number((steps * SCORE_STEP).toFixed(2)))));
  }

  draw() {
    const last = this.stream.last;
    if (!last || this.released) return;
    const { bitmap, frame } = last;
    const canvas = this.picture;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
      this.stage.style.setProperty("--dora-shape", String(bitmap.width / bitmap.height));
    }
    canvas.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
    this.drawBoxes();
    this.message.textContent = "";
    this.root.dataset.seq = String(frame.seq);
  }

  /** Draws at the resolution of the screen, not of the picture, so that text and lines stay crisp. */
  drawBoxes() {
    const last = this.stream.last;
    const width = this.picture.clientWidth; // 0 until it is on the page; then the sizer calls again
    if (!last || this.released || !width) return;
    const { bitmap, frame } = last;
    const shown = this.stream.shownBoxes();
    if (!shown.length && this.overlayEmpty) return;
    const density = window.devicePixelRatio || 1;
    const context = this.clearedOverlay(width, this.picture.clientHeight, density);
    this.overlayEmpty = !shown.length;
    context.setTransform(density, 0, 0, density, 0, 0);
    const alpha = fadedAlpha(Math.max(frame.age ?? 0, frame.lag ?? 0));
    drawBoxes(context, shown, width / (frame.w || bitmap.width), width, alpha);
  }

  /** The pixel of the frame, as boxes count them, below the pointer. */
  placeOf(event) {
    const last = this.stream.last;
    if (!last) return null;
    const { clientWidth, clientHeight } = this.picture;
    const width = last.frame.w || last.bitmap.width;
    const height = last.frame.h || last.bitmap.height;
    const place = (offset, size, pixels) =>
      Math.max(0, Math.min(pixels - 1, Math.floor((offset / size) * pixels)));
    return {
      x: place(event.offsetX, clientWidth, width),
      y: place(event.offsetY, clientHeight, height),
    };
  }

  drawPixel() {
    const pixel = this.picture.matches(":hover") ? this.stream.pixel : null;
    setText(this.pixel, pixel ? `x ${pixel.x}  y ${pixel.y}  ${pixel.text}` : "");
  }

  /** Downloads the picture as it is shown, at its own resolution. */
  async downloadSnapshot() {
    const last = this.stream.last;
    if (!last) return;
    const { bitmap, frame } = last;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const scale = bitmap.width / (frame.w || bitmap.width);
    drawBoxes(context, this.stream.shownBoxes(), scale, bitmap.width, 1);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = snapshotName(this.model.get("topic"));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60e3); // a browser may still be reading it
  }

  toggleFullScreen() {
    const asked = document.fullscreenElement === this.root
      ? document.exitFullscreen()
      : this.root.requestFullscreen();
    asked.catch(() => {}); // the browser forbids it
  }

  /** JupyterLab makes an output anew when it gets a still, as at a pause: full screen goes on. */
  takeOverScreen() {
    const { screenView } = this.stream;
    if (!screenView || screenView.root.isConnected) return;
    this.stream.screenView = null;
    // Not at once: the end of the old output's full screen is still under way, and would undo this one.
    setTimeout(() => this.root.isConnected && this.root.requestFullscreen().catch(() => {}), 300);
  }

  noteFullScreen() {
    const shown = document.fullscreenElement;
    if (shown === this.root) this.stream.screenView = this;
    else if (this.stream.screenView === this && this.root.isConnected) this.stream.screenView = null;
    this.drawBoxes();
  }

  clearedOverlay(width, height, density) {
    const { overlay } = this;
    const size = [Math.round(width * density), Math.round(height * density)];
    const context = overlay.getContext("2d");
    if (overlay.width === size[0] && overlay.height === size[1]) {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, ...size);
    } else {
      [overlay.width, overlay.height] = size; // also clears it
      overlay.style.width = `${width}px`;
      overlay.style.height = `${height}px`;
    }
    return context;
  }

  refresh() {
    const { state, reason } = this.condition();
    const paused = this.stream.paused;
    this.root.dataset.state = state;
    setText(this.state, state);
    setText(this.reason, this.stream.last ? reason : "");
    if (!this.stream.last) setText(this.message, reason ? `${state}: ${reason}` : state);
    if (this.pauseButton.dataset.paused !== String(paused)) {
      this.pauseButton.dataset.paused = String(paused);
      this.pauseButton.replaceChildren(icon(paused ? "resume" : "pause"), paused ? "Resume" : "Pause");
      this.pauseButton.title = paused ? "Resume (space)" : "Pause (space)";
    }
    this.boxesButton.setAttribute("aria-pressed", String(this.model.get("show_boxes")));
    this.slider.value = String(this.model.get("min_score"));
    setText(this.score, this.model.get("min_score").toFixed(2));
    const own = this.stream.ownBoxes();
    this.syncButton.setAttribute("aria-pressed", String(own));
    this.syncButton.title = own
      ? "Show the newest picture and the newest boxes (s)"
      : "Show boxes on their own frames (s)";
    setText(this.figures, this.figuresText(state));
    this.detailsButton.hidden = !this.stream.last;
    this.detailsButton.setAttribute("aria-expanded", String(this.stream.detailsOpen));
    this.refreshDetails();
  }

  refreshDetails() {
    const rows = this.stream.detailsOpen && this.stream.last ? this.detailRows() : [];
    const text = JSON.stringify(rows);
    if (text === this.detailsText) return;
    this.detailsText = text;
    this.details.replaceChildren(
      ...rows.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]),
    );
  }

  /** The kernel's status, unless the kernel is lost, or this page has a newer setting of `paused`. */
  condition() {
    const { status, paused, lastMessageMs, last, disconnected } = this.stream;
    if (disconnected) {
      return { state: "lost", reason: "the kernel has ended or was restarted; run the cell again" };
    }
    const silentMs = performance.now() - lastMessageMs;
    if (this.visible && silentMs > SILENCE_MS) {
      const secs = Math.round(silentMs / 1000);
      return { state: "lost", reason: `no message from the kernel for ${secs} s` };
    }
    if (paused && last && ["running", "stale"].includes(status.state)) return { state: "paused", reason: "" };
    if (!paused && status.state === "paused") return { state: "running", reason: "" };
    return status;
  }

  /** What matters first. */
  figuresText(state) {
    const { stream } = this;
    const frame = stream.last?.frame;
    const figures = [this.model.get("topic")];
    if (!frame) return figures[0];
    if (state === "running" || state === "error") {
      figures.push(`${stream.framesPerSecond().toFixed(0)} fps`, `age ${duration(stream.ageMs)}`);
    }
    if (frame.boxes) figures.push(this.boxesText(frame));
    if (frame.boxes && frame.lag !== 0) figures.push(this.lagText(frame.lag));
    figures.push(...(frame.notes ?? []));
    const { bad_boxes: badBoxes, bad_labels: badLabels } = stream.status;
    if (badBoxes) figures.push(`${counted(badBoxes, "bad box", "bad boxes")} left out`);
    if (badLabels) figures.push(`${counted(badLabels, "label", "labels")} not UTF-8`);
    if (stream.broken) figures.push(`${stream.broken} damaged`);
    return figures.join(" · ");
  }

  boxesText(frame) {
    const [shown, all] = [this.stream.shownBoxes().length, frame.boxes.length];
    return shown === all ? counted(all, "box", "boxes") : `${shown} of ${counted(all, "box", "boxes")}`;
  }

  lagText(lagMs) {
    const behind = `boxes ${duration(lagMs)} behind`;
    // Without stamps no boxes would be found for any frame.
    if (lagMs === null || this.stream.ownBoxes()) return behind;
    return `${behind}; press s to show them on their own frames`;
  }

  /** What explains the line: name and value. */
  detailRows() {
    const { stream } = this;
    const { frame, bitmap } = stream.last;
    const rows = [["picture", `${frame.w || bitmap.width} x ${frame.h || bitmap.height}`]];
    if (this.model.get("boxes")) {
      const way = stream.ownBoxes() ? "on their own frames" : "the newest, on the newest picture";
      const chosen = this.model.get("sync") === "auto" ? " (chosen by their delay)" : "";
      rows.push(["boxes", way + chosen]);
    }
    rows.push(...dropRows([...(stream.status.drops ?? []), ["this page", stream.dropped]]));
    const { unmatched } = stream.status;
    if (unmatched) rows.push(["without their frame", counted(unmatched, "message with boxes", "messages with boxes")]);
    return rows;
  }

  close() {
    this.watcher.disconnect();
    this.sizer.disconnect();
    window.removeEventListener("keydown", this.onKey, true);
    document.removeEventListener("fullscreenchange", this.onScreenChange);
    for (const name of SETTINGS) this.model.off(`change:${name}`, this.onSettings);
    this.stream.views.delete(this);
    this.stream.reportVisible();
    this.releasePixels();
    this.root.remove();
  }
}

/** Leaves text alone that did not change: a screen reader would read it again. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export default () => {
  let stream;
  return {
    initialize({ model }) {
      stream = new Stream(model);
      return () => stream.close();
    },
    render({ model, el }) {
      const view = new View(stream, model, el);
      return () => view.close();
    },
  };
};
