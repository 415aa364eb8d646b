// The page's side of CameraView. page.js is prepended to this file; view.py lists the messages.
//
// A CameraPage belongs to a model: it decodes and acknowledges. A CameraOutput belongs to an output: it draws.

const REFRESH_MS = 500;
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

class CameraPage extends Page {
  constructor(model) {
    super(model);
    this.status = { state: "waiting", reason: "", drops: [], unmatched: 0 };
    /** @type {{bitmap: ImageBitmap, frame: Frame} | null} */
    this.last = null;
    this.pending = null;
    this.takenSeq = 0; // of the newest frame received, drawn or not
    this.drawTimes = [];
    this.ageMs = null;
    this.pumping = false;
    this.frozen = false; // a person paused this page: frames under way must not be drawn either
    this.detailsOpen = false;
    this.screenView = null; // the output that is shown in full screen
    this.pixel = null; // the kernel's last answer: {x, y, text}
    this.pixelWanted = null; // the place to ask for next
    this.pixelAskedMs = null; // when the question was sent that has no answer yet
    this.focus = null; // the focused part, to restore it when the output is made anew
    this.onPaused = () => this.pausedChanged();
    model.on("change:paused", this.onPaused);
    this.refreshTimer = setInterval(() => this.draw(), REFRESH_MS);
  }

  get paused() {
    return this.model.get("paused");
  }

  take(message, buffers) {
    if (message?.type === "frame") this.receiveFrame(message, buffers?.[0]);
    else if (message?.type === "boxes") this.receiveBoxes(message);
    else if (message?.type === "pixel") this.receivePixel(message);
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
    for (const view of this.views) view.drawPicture();
    if (isFirst) this.draw();
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

  reported(count) {
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
    this.draw();
  }

  close() {
    super.close();
    clearTimeout(this.pixelTimer);
    clearInterval(this.refreshTimer);
    this.model.off("change:paused", this.onPaused);
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

const icon = (name) => svgIcon(ICONS[name]);

class CameraOutput extends View {
  /** @param {CameraPage} page @param {HTMLElement} host */
  constructor(page, model, host) {
    super(page, host, "dora-view");
    this.model = model;
    this.released = false;
    this.build(model.get("topic"), model.get("boxes"));
    this.listen();
    this.drawPicture();
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
    this.root.append(this.stage, bar, caption, this.details, this.reason);
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "group");
    const what = boxes ? `${topic} with boxes of ${boxes}` : topic;
    this.root.setAttribute("aria-label", `Live view of ${what}`);
    this.root.setAttribute("aria-keyshortcuts", boxes ? "Space B S [ ] F" : "Space F");
  }

  listen() {
    this.pauseButton.onclick = () => this.page.togglePause();
    this.boxesButton.onclick = () => this.set("show_boxes", !this.model.get("show_boxes"));
    this.syncButton.onclick = () => this.set("sync", !this.page.ownBoxes());
    this.snapshotButton.onclick = () => this.downloadSnapshot();
    this.screenButton.onclick = () => this.toggleFullScreen();
    this.detailsButton.onclick = () => {
      this.page.detailsOpen = !this.page.detailsOpen;
      this.page.draw();
    };
    this.picture.onpointermove = (event) => this.page.wantPixel(this.placeOf(event));
    this.picture.onpointerleave = () => this.page.wantPixel(null);
    this.onScreenChange = () => this.noteFullScreen();
    document.addEventListener("fullscreenchange", this.onScreenChange);
    this.slider.oninput = () => this.model.set("min_score", Number(this.slider.value));
    this.slider.onchange = () => this.model.save_changes();
    this.onSettings = () => {
      this.drawBoxes();
      this.draw();
    };
    for (const name of SETTINGS) this.model.on(`change:${name}`, this.onSettings);
    // In the capture phase at the window, before a notebook's shortcuts: in JupyterLab "b" inserts a cell.
    this.onKey = (event) => this.handleKey(event);
    window.addEventListener("keydown", this.onKey, true);
    this.root.addEventListener("focusin", ({ target }) => {
      this.page.focus = { part: target.classList[target.classList.length - 1], leftMs: Infinity };
    });
    this.root.addEventListener("focusout", () => {
      if (this.page.focus) this.page.focus.leftMs = performance.now();
    });
    this.watch(this.picture);
    this.sizer = new ResizeObserver(() => this.drawBoxes());
    this.sizer.observe(this.picture);
  }

  moved() {
    if (!this.onScreen && !this.root.isConnected) this.releasePixels();
    if (this.onScreen) {
      this.released = false;
      this.drawPicture();
    }
  }

  /** Frees 2 MB of pixels of an output that the front end took off the page, perhaps for good. */
  releasePixels() {
    this.released = true;
    this.picture.width = this.overlay.width = 0;
  }

  /** JupyterLab makes an output anew when it gets a still; the keyboard focus must not be lost with it. */
  restoreFocus() {
    const focus = this.page.focus;
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

  drawPicture() {
    const last = this.page.last;
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
    const last = this.page.last;
    const width = this.picture.clientWidth; // 0 until it is on the page; then the sizer calls again
    if (!last || this.released || !width) return;
    const { bitmap, frame } = last;
    const shown = this.page.shownBoxes();
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
    const last = this.page.last;
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
    const pixel = this.picture.matches(":hover") ? this.page.pixel : null;
    setText(this.pixel, pixel ? `x ${pixel.x}  y ${pixel.y}  ${pixel.text}` : "");
  }

  /** Downloads the picture as it is shown, at its own resolution. */
  async downloadSnapshot() {
    const last = this.page.last;
    if (!last) return;
    const { bitmap, frame } = last;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const scale = bitmap.width / (frame.w || bitmap.width);
    drawBoxes(context, this.page.shownBoxes(), scale, bitmap.width, 1);
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
    const { screenView } = this.page;
    if (!screenView || screenView.root.isConnected) return;
    this.page.screenView = null;
    // Not at once: the end of the old output's full screen is still under way, and would undo this one.
    setTimeout(() => this.root.isConnected && this.root.requestFullscreen().catch(() => {}), 300);
  }

  noteFullScreen() {
    const shown = document.fullscreenElement;
    if (shown === this.root) this.page.screenView = this;
    else if (this.page.screenView === this && this.root.isConnected) this.page.screenView = null;
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

  draw() {
    const { state, reason } = this.condition();
    const paused = this.page.paused;
    this.root.dataset.state = state;
    setText(this.state, state);
    setText(this.reason, this.page.last ? reason : "");
    if (!this.page.last) setText(this.message, reason ? `${state}: ${reason}` : state);
    if (this.pauseButton.dataset.paused !== String(paused)) {
      this.pauseButton.dataset.paused = String(paused);
      this.pauseButton.replaceChildren(icon(paused ? "resume" : "pause"), paused ? "Resume" : "Pause");
      this.pauseButton.title = paused ? "Resume (space)" : "Pause (space)";
    }
    this.boxesButton.setAttribute("aria-pressed", String(this.model.get("show_boxes")));
    this.slider.value = String(this.model.get("min_score"));
    setText(this.score, this.model.get("min_score").toFixed(2));
    const own = this.page.ownBoxes();
    this.syncButton.setAttribute("aria-pressed", String(own));
    this.syncButton.title = own
      ? "Show the newest picture and the newest boxes (s)"
      : "Show boxes on their own frames (s)";
    setText(this.figures, this.figuresText(state));
    this.detailsButton.hidden = !this.page.last;
    this.detailsButton.setAttribute("aria-expanded", String(this.page.detailsOpen));
    this.refreshDetails();
  }

  refreshDetails() {
    const rows = this.page.detailsOpen && this.page.last ? this.detailRows() : [];
    const text = JSON.stringify(rows);
    if (text === this.detailsText) return;
    this.detailsText = text;
    this.details.replaceChildren(
      ...rows.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]),
    );
  }

  /** The kernel's status, unless the kernel is lost, or this page has a newer setting of `paused`. */
  condition() {
    const { status, paused, last } = this.page;
    const lost = this.page.lostStreamReason();
    if (lost) return { state: "lost", reason: lost };
    if (paused && last && ["running", "stale"].includes(status.state)) return { state: "paused", reason: "" };
    if (!paused && status.state === "paused") return { state: "running", reason: "" };
    return status;
  }

  /** What matters first. */
  figuresText(state) {
    const { page } = this;
    const frame = page.last?.frame;
    const figures = [this.model.get("topic")];
    if (!frame) return figures[0];
    if (state === "running" || state === "error") {
      figures.push(`${page.framesPerSecond().toFixed(0)} fps`, `age ${duration(page.ageMs)}`);
    }
    if (frame.boxes) figures.push(this.boxesText(frame));
    if (frame.boxes && frame.lag !== 0) figures.push(this.lagText(frame.lag));
    figures.push(...(frame.notes ?? []));
    const { bad_boxes: badBoxes, bad_labels: badLabels } = page.status;
    if (badBoxes) figures.push(`${counted(badBoxes, "bad box", "bad boxes")} left out`);
    if (badLabels) figures.push(`${counted(badLabels, "label", "labels")} not UTF-8`);
    if (page.broken) figures.push(`${page.broken} damaged`);
    return figures.join(" · ");
  }

  boxesText(frame) {
    const [shown, all] = [this.page.shownBoxes().length, frame.boxes.length];
    return shown === all ? counted(all, "box", "boxes") : `${shown} of ${counted(all, "box", "boxes")}`;
  }

  lagText(lagMs) {
    const behind = `boxes ${duration(lagMs)} behind`;
    // Without stamps no boxes would be found for any frame.
    if (lagMs === null || this.page.ownBoxes()) return behind;
    return `${behind}; press s to show them on their own frames`;
  }

  /** What explains the line: name and value. */
  detailRows() {
    const { page } = this;
    const { frame, bitmap } = page.last;
    const rows = [["picture", `${frame.w || bitmap.width} x ${frame.h || bitmap.height}`]];
    if (this.model.get("boxes")) {
      const way = page.ownBoxes() ? "on their own frames" : "the newest, on the newest picture";
      const chosen = this.model.get("sync") === "auto" ? " (chosen by their delay)" : "";
      rows.push(["boxes", way + chosen]);
    }
    rows.push(...dropRows([...(page.status.drops ?? []), ["this page", page.dropped]]));
    const { unmatched } = page.status;
    if (unmatched) rows.push(["without their frame", counted(unmatched, "message with boxes", "messages with boxes")]);
    return rows;
  }

  close() {
    super.close();
    this.sizer.disconnect();
    window.removeEventListener("keydown", this.onKey, true);
    document.removeEventListener("fullscreenchange", this.onScreenChange);
    for (const name of SETTINGS) this.model.off(`change:${name}`, this.onSettings);
    this.releasePixels();
  }
}

export default pageWidget((page, model, host) => new CameraOutput(page, model, host), CameraPage);
