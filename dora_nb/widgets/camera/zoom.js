// Which part of the picture a CameraView shows, and the wheel, fingers and drags that change it.

const MAX_ZOOM = 20;
const ZOOM_STEP = 1.5; // of a key and a button
const PAN_STEP = 0.1; // of what is shown, for an arrow key
const DRAG_PX = 4; // a press that moves less is a click

const clampTo = (value, low, high) => Math.max(low, Math.min(high, value));

/** The part that is shown. `left` and `top` are from 0 to 1, and `scale` is 1 for the whole picture. */
class Zoom {
  constructor() {
    this.reset();
  }

  reset() {
    this.scale = 1;
    this.left = this.top = 0;
  }

  get zoomed() {
    return this.scale > 1;
  }

  /** Zooms by a factor around a place of the view, from 0 to 1 both ways. */
  by(factor, x = 0.5, y = 0.5) {
    this.hold(this.toPicture(x, y), [x, y], this.scale * factor);
  }

  /** Puts a place of the picture at a place of the view, as far as the picture's edges allow. */
  hold([pictureX, pictureY], [x, y], scale) {
    const within = clampTo(scale, 1, MAX_ZOOM);
    this.scale = within < 1.01 ? 1 : within;
    this.moveTo(pictureX - x / this.scale, pictureY - y / this.scale);
  }

  /** Moves the part that is shown, in units of the view. */
  pan(x, y) {
    this.moveTo(this.left + x / this.scale, this.top + y / this.scale);
  }

  moveTo(left, top) {
    const most = 1 - 1 / this.scale;
    this.left = clampTo(left, 0, most);
    this.top = clampTo(top, 0, most);
  }

  /** Moves so that a place of the picture is shown. */
  show(x, y) {
    const size = 1 / this.scale;
    const near = 0.05 * size; // not at the very edge
    const left = clampTo(this.left, x - size + near, x - near);
    this.moveTo(left, clampTo(this.top, y - size + near, y - near));
  }

  /** The place of the picture that is at a place of the view, all from 0 to 1. */
  toPicture(x, y) {
    return [this.left + x / this.scale, this.top + y / this.scale];
  }
}

/**
 * Turns what happens on a canvas into calls: pan and zoom here, and the rest for `owner`, which has
 * `zoom`, `zoomChanged()`, `mayWheel()`, `draws()` (whether a drag draws), `pressBegan(at)`, `pressMoved(at)`,
 * `pressEnded(at, moved)` and `pressCancelled()`. `at` is a place of the view, from 0 to 1.
 */
class Gestures {
  constructor(canvas, owner) {
    this.canvas = canvas;
    this.owner = owner;
    /** @type {Map<number, [number, number]>} */
    this.pointers = new Map();
    this.mode = ""; // of the press under way: pan, draw or pinch
    canvas.onpointerdown = (event) => this.press(event);
    canvas.onpointermove = (event) => this.move(event);
    canvas.onpointerup = (event) => this.release(event);
    canvas.onpointercancel = (event) => this.release(event, true);
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    // Two fingers zoom the picture, and must not scroll the notebook.
    canvas.addEventListener("touchmove", (event) => event.touches.length > 1 && event.preventDefault(), {
      passive: false,
    });
  }

  at(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [clampTo((event.clientX - left) / width, 0, 1), clampTo((event.clientY - top) / height, 0, 1)];
  }

  press(event) {
    if (event.button > 1) return;
    this.pointers.set(event.pointerId, this.at(event));
    if (this.pointers.size === 2) {
      this.owner.pressCancelled();
      this.mode = "pinch";
      const { middle, span } = this.fingers();
      const { zoom } = this.owner;
      this.pinchFrom = { place: zoom.toPicture(...middle), scale: zoom.scale, span };
      return;
    }
    if (this.pointers.size > 2) return;
    const byHand = event.button === 1 || event.shiftKey;
    this.mode = !byHand && this.owner.draws() ? "draw" : "pan";
    this.clicks = !byHand;
    this.from = this.last = this.at(event);
    this.moved = false;
    if (event.button === 1) event.preventDefault(); // else the browser begins to scroll by itself
    // So that its end is heard also outside. A finger has it anyway, until the browser begins to scroll.
    if (event.pointerType !== "touch") this.canvas.setPointerCapture(event.pointerId);
    if (this.clicks) this.owner.pressBegan(this.from);
  }

  move(event) {
    if (!this.pointers.has(event.pointerId) || !this.mode) return;
    const at = this.at(event);
    if (this.mode === "pinch") return this.pinch(event.pointerId, at);
    const { width, height } = this.canvas.getBoundingClientRect();
    this.pointers.set(event.pointerId, at);
    const [x, y] = [at[0] - this.from[0], at[1] - this.from[1]];
    this.moved ||= Math.hypot(x * width, y * height) > DRAG_PX;
    if (!this.moved) return;
    if (this.mode === "draw") return this.owner.pressMoved(at);
    if (!this.owner.zoom.zoomed) return;
    this.canvas.classList.add("dora-panning");
    this.owner.zoom.pan(this.last[0] - at[0], this.last[1] - at[1]);
    this.last = at;
    this.owner.zoomChanged();
  }

  /** From where two fingers began, and not from the last step: at an edge, steps would add up to a drift. */
  pinch(id, at) {
    this.pointers.set(id, at);
    const { middle, span } = this.fingers();
    this.owner.zoom.hold(this.pinchFrom.place, middle, (this.pinchFrom.scale * span) / this.pinchFrom.span);
    this.owner.zoomChanged();
  }

  /** The place between two fingers, and how far apart they are in pixels. */
  fingers() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const [[x1, y1], [x2, y2]] = [...this.pointers.values()];
    const span = Math.hypot((x1 - x2) * width, (y1 - y2) * height);
    return { middle: [(x1 + x2) / 2, (y1 + y2) / 2], span: Math.max(1, span) };
  }

  release(event, cancelled = false) {
    if (!this.pointers.delete(event.pointerId)) return;
    this.canvas.classList.remove("dora-panning");
    if (this.mode === "pinch") {
      this.mode = ""; // a finger that is still down does nothing more
      return;
    }
    const { mode } = this;
    if (!mode) return;
    this.mode = "";
    const isPick = !cancelled && this.clicks && (mode === "draw" || !this.moved);
    if (isPick) this.owner.pressEnded(this.at(event), this.moved);
    else this.owner.pressCancelled();
  }

  wheel(event) {
    if (!event.ctrlKey && !this.owner.mayWheel()) return;
    event.preventDefault();
    const factor = Math.exp(-clampTo(event.deltaY || event.deltaX, -100, 100) / 300);
    this.owner.zoom.by(factor, ...this.at(event));
    this.owner.zoomChanged();
  }
}
