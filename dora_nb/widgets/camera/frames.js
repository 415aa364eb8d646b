// The frames of a CameraView on a page: takes them from the kernel, decodes them in step with the screen, and
// acknowledges them. Used by camera.js.

const REFRESH_MS = 500;
// The value below the pointer is asked of the kernel: one question at a time, at most ten a second.
const PIXEL_MS = 100;
const PIXEL_LOST_MS = 2000;

/** @typedef {{seq: number, t: number | null, mime: string, w: number, h: number, boxes: Box[] | null,
 *             lag: number | null, age: number | null}} Frame with points, mask and tracks if there are any */

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
    this.zoom = new Zoom(); // of all outputs, and of one that is made anew
    this.tool = model.get("events") ? "click" : "hand";
    this.mask = null; // the last one, painted
    this.numPicks = 0;
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
    if (message?.type === "frame") this.receiveFrame(message, buffers);
    else if (message?.type === "overlays") this.receiveOverlays(message, buffers);
    else if (message?.type === "pixel") this.receivePixel(message);
  }

  receiveFrame(frame, buffers) {
    const buffer = buffers?.[0];
    if (!buffer || !(frame.seq > this.takenSeq)) return; // older than the newest, or sent again
    this.takenSeq = frame.seq;
    if (this.frozen) return this.ack(frame.seq);
    if (this.pending) this.dropped++; // the newest wins
    this.pending = { frame: { ...frame, ...this.unpacked(frame, buffers) }, buffer };
    this.pump();
  }

  receiveOverlays(message, buffers) {
    if (this.last?.frame.seq !== message.seq || this.frozen) return;
    Object.assign(this.last.frame, this.unpacked(message, buffers));
    for (const view of this.views) view.drawOverlay();
  }

  unpacked(message, buffers) {
    const overlays = unpackOverlays(message, buffers, this.mask);
    this.mask = overlays.mask ?? this.mask;
    return overlays;
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

  /** What the settings show of a kind of overlay. @param {string} kind */
  shows(kind) {
    return this.model.get(`show_${kind}`) !== false;
  }

  /** The boxes of the last frame that the settings show. */
  shownBoxes() {
    if (!this.shows("boxes")) return [];
    const minScore = this.model.get("min_score");
    return (this.last?.frame.boxes ?? []).filter(([, , , , score]) => score === null || score >= minScore);
  }

  /** The overlays of the last frame that the settings show. */
  shownOverlays() {
    const { frame } = this.last;
    const others = OVERLAYS.slice(1).map((kind) => [kind, this.shows(kind) ? frame[kind] : undefined]);
    return { ...Object.fromEntries(others), boxes: this.shownBoxes(), lag: frame.lag, age: frame.age };
  }

  /** The size of the last frame in the pixels that boxes refer to. */
  sizeOfFrame() {
    const { bitmap, frame } = this.last;
    return { width: frame.w || bitmap.width, height: frame.h || bitmap.height };
  }

  zoomChanged() {
    for (const view of this.views) {
      view.drawPicture();
      view.drawTools();
    }
  }

  chooseTool(tool) {
    this.tool = tool;
    for (const view of this.views) view.toolChanged();
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
    this.last = this.pending = this.mask = null;
  }
}
