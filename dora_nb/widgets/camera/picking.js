// The tools of a CameraView with `events`: a click, a box or a line becomes a message, by pointer or by keys.

const FLASH_MS = 700;
const PICK_COLOUR = "#ffffff";
const TOOLS = {
  hand: { name: "Hand", does: "Move the picture", key: "h" },
  click: { name: "Click", does: "Click on the picture", key: "c" },
  box: { name: "Box", does: "Draw a box", key: "r" },
  line: { name: "Line", does: "Draw a line", key: "l" },
};

/**
 * What is being picked in one output. `view` has `sizeOfFrame()`, `middle()`, `cursorMoved(place)`,
 * `pick(kind, ends, from, shown)` and `redraw()`. All places are pixels of the frame.
 */
class Picking {
  constructor(view) {
    this.view = view;
    this.from = null; // where the press, or the box or line of the keyboard, began
    this.to = null; // where it is now
    this.shown = null; // the frame that was on the screen at the press
    this.cursor = null; // the place of the keyboard
    this.flash = null; // what was sent last, for a moment
  }

  press(at, shown) {
    this.cursor = null;
    [this.from, this.to, this.shown] = [at, null, shown];
  }

  drag(at) {
    this.to = at;
    this.view.redraw();
  }

  cancel() {
    this.from = this.to = this.shown = null;
    this.view.redraw();
  }

  /** @param {string} tool @param {[number, number]} at @param {boolean} moved @param {object} shown now */
  release(tool, at, moved, shown) {
    const { from, shown: before } = this;
    this.from = this.to = this.shown = null;
    if (!from) return;
    // A click is meant for the picture at the press, and what is drawn for the one that it was drawn on last.
    if (tool === "click") this.send("click", from, from, before);
    else if (tool !== "hand" && moved) this.send(tool, from, at, shown);
    this.view.redraw();
  }

  // ----- by keys

  /** Moves the cursor; it begins in the middle of what is shown. */
  moveCursor(x, y) {
    const { width, height } = this.view.sizeOfFrame();
    const [atX, atY] = this.cursor ?? this.view.middle();
    const moved = this.cursor ? [atX + x, atY + y] : [atX, atY];
    this.cursor = [clampTo(Math.round(moved[0]), 0, width - 1), clampTo(Math.round(moved[1]), 0, height - 1)];
    if (this.from) this.to = this.cursor;
    this.view.cursorMoved(this.cursor);
  }

  /** Picks at the cursor: a click, or the first and then the second end of a box or a line. */
  enter(tool, shown) {
    if (!this.cursor) return this.moveCursor(0, 0);
    if (tool === "click") this.send("click", this.cursor, this.cursor, shown);
    else if (!this.from) [this.from, this.to] = [this.cursor, this.cursor];
    else {
      const { from } = this;
      this.from = this.to = null;
      if (String(from) !== String(this.cursor)) this.send(tool, from, this.cursor, shown);
    }
    this.view.redraw();
  }

  // -----

  send(kind, from, to, shown) {
    const ends = kind === "box" ? cornersOf(from, to) : [...from, ...to];
    const rounded = ends.map((end) => Math.round(end * 100) / 100);
    this.flash = { kind, ends: rounded };
    clearTimeout(this.flashTimer);
    this.flashTimer = setTimeout(() => {
      this.flash = null;
      this.view.redraw();
    }, FLASH_MS);
    this.view.pick(kind, rounded, from, shown);
  }

  /** What is drawn of it: the shape under way, the one that was sent, and the cursor. @param {Place} place */
  draw(context, tool, place) {
    if (this.flash) this.drawShape(context, this.flash.kind, this.flash.ends, place, false);
    if (this.from && this.to && (tool === "box" || tool === "line")) {
      this.drawShape(context, tool, [...this.from, ...this.to], place, true);
    }
    if (!this.cursor) return;
    const [x, y] = onCanvas(place, this.cursor[0] + 0.5, this.cursor[1] + 0.5);
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 4 * dx, y + 4 * dy);
      context.lineTo(x + 14 * dx, y + 14 * dy);
    }
    strokeOutlined(context, PICK_COLOUR, 2);
  }

  drawShape(context, kind, [x1, y1, x2, y2], place, dashed) {
    const [left, top] = onCanvas(place, x1, y1);
    const [right, bottom] = onCanvas(place, x2, y2);
    context.setLineDash(dashed ? [6, 4] : []);
    context.beginPath();
    if (kind === "click") context.arc(left, top, 9, 0, TAU);
    else if (kind === "box") context.rect(left, top, right - left, bottom - top);
    else {
      context.moveTo(left, top);
      context.lineTo(right, bottom);
    }
    strokeOutlined(context, PICK_COLOUR, 2);
    context.setLineDash([]);
  }

  close() {
    clearTimeout(this.flashTimer);
  }
}

const cornersOf = ([x1, y1], [x2, y2]) => [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
