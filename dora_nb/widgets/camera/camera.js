// One output of CameraView: the picture, what is drawn on it, its buttons and its keys.
//
// A CameraPage (frames.js) belongs to a model: it decodes and acknowledges. A CameraOutput belongs to an
// output: it draws. page.js and the other files of this folder are prepended; view.py lists the messages.

const SCORE_STEP = 0.05;
const PLACEHOLDER = [640, 480];
const SHARP_ZOOM = 4; // from here on the pixels of the picture are squares
const SETTINGS = [...OVERLAYS.map((kind) => `show_${kind}`), "min_score", "sync"];
const TOGGLES = { boxes: "b", points: "p", mask: "m", tracks: "t" };

const ICONS = {
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  resume: "M4.5 2.2 13 8l-8.5 5.8z",
  sync: "M6.4 9.6a2.6 2.6 0 0 1 0-3.7l2.2-2.2a2.6 2.6 0 1 1 3.7 3.7l-.9.9-.9-.9.9-.9a1.3 1.3 0 1 0-1.9-1.9L7.3 6.8a1.3 1.3 0 0 0 0 1.9zM9.6 6.4a2.6 2.6 0 0 1 0 3.7l-2.2 2.2a2.6 2.6 0 1 1-3.7-3.7l.9-.9.9.9-.9.9a1.3 1.3 0 1 0 1.9 1.9l2.2-2.2a1.3 1.3 0 0 0 0-1.9z",
  snapshot: "M5.5 3 6.4 1.8h3.2l.9 1.2H13a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1zM8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zm0 1.3a1.7 1.7 0 1 1 0 3.4 1.7 1.7 0 0 1 0-3.4z",
  fullScreen: "M2 2h4.5v1.4H3.4v3.1H2zM9.5 2H14v4.5h-1.4V3.4H9.5zM2 9.5h1.4v3.1h3.1V14H2zM12.6 9.5H14V14H9.5v-1.4h3.1z",
  zoomIn: "M7.3 3h1.4v4.3H13v1.4H8.7V13H7.3V8.7H3V7.3h4.3z",
  zoomOut: "M3 7.3h10v1.4H3z",
  hand: "M8 1l2.5 2.5H8.7v3.8h3.8V5.5L15 8l-2.5 2.5V8.7H8.7v3.8h1.8L8 15l-2.5-2.5h1.8V8.7H3.5v1.8L1 8l2.5-2.5v1.8h3.8V3.5H5.5z",
  click: "M4 1.5 12.8 8l-3.9.7 2.3 4.4-1.8.9-2.2-4.4L4 12.4z",
  box: "M2 3h12v10H2zM3.4 4.4v7.2h9.2V4.4z",
  line: "M12.8 1.6a1.7 1.7 0 1 1-.7 3.2L4.8 12.1a1.7 1.7 0 1 1-1-1l7.3-7.3a1.7 1.7 0 0 1 1.7-2.2z",
  points: "M4 10a2 2 0 1 1 0 4 2 2 0 0 1 0-4zM8 2a2 2 0 1 1 0 4 2 2 0 0 1 0-4zM12 10a2 2 0 1 1 0 4 2 2 0 0 1 0-4zM6.3 6.3l1.2.5-1.8 3.3-1.1-.6zM9.7 6.3l1.7 3.2-1.1.6-1.8-3.3z",
  mask: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2zm0 1.4v9.2a4.6 4.6 0 0 0 0-9.2z",
  tracks: "M1.5 11.6c2.9 0 2.9-8 6.4-8 3.2 0 2.6 6 6.6 6V11c-5 0-4.6-6-6.6-6-2.3 0-2 8-6.4 8z",
  boxes: "M2 4.5V2h2.5v1.2H3.2v1.3zM11.5 2H14v2.5h-1.2V3.2h-1.3zM2 11.5h1.2v1.3h1.3V14H2zM12.8 11.5H14V14h-2.5v-1.2h1.3zM5.5 5.5h5v5h-5z",
};

const icon = (name) => svgIcon(ICONS[name]);

function iconButton(kind, name, label, title) {
  const button = element("button", `dora-button dora-icon ${kind}`, icon(name));
  button.title = title;
  button.setAttribute("aria-label", label);
  return button;
}

function group(label, ...buttons) {
  const made = element("span", "dora-group", ...buttons);
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", label);
  return made;
}

/** The overlays without the ages by which they fade. */
function unfaded(shown) {
  const fresh = { lag: null, age: null };
  const others = OVERLAYS.slice(1).map((kind) => [kind, shown[kind] && { ...shown[kind], ...fresh }]);
  return { ...shown, ...Object.fromEntries(others), ...fresh };
}

/** The name of a file for a snapshot taken now: "camera_image_2026-11-30_12-00-00.png". */
function snapshotName(topic) {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60e3).toISOString();
  const time = local.slice(0, 19).replace("T", "_").replaceAll(":", "-");
  return `${topic.replace(/[^\w.-]+/g, "_")}_${time}.png`;
}

class CameraOutput extends View {
  /** @param {CameraPage} page @param {HTMLElement} host */
  constructor(page, model, host) {
    super(page, host, "dora-frame dora-view");
    this.model = model;
    this.released = false;
    this.hover = null; // the place of the frame below the pointer
    this.picking = new Picking(this);
    this.build(model.get("topic"), model.get("events"));
    this.listen();
    this.drawPicture();
    this.restoreFocus();
    this.takeOverScreen();
  }

  build(topic, events) {
    this.kinds = OVERLAYS.filter((kind) => this.model.get(kind));
    this.picture = element("canvas", "dora-picture");
    [this.picture.width, this.picture.height] = PLACEHOLDER;
    this.picture.setAttribute("role", "img");
    this.picture.setAttribute("aria-label", `Live picture of ${topic}`);
    this.overlay = element("canvas", "dora-overlay");
    this.overlay.setAttribute("aria-hidden", "true");
    this.message = element("div", "dora-message");
    this.pixel = element("div", "dora-pixel");
    this.legend = element("div", "dora-legend");
    this.stage = element("div", "dora-stage", this.picture, this.overlay, this.message, this.pixel, this.legend);

    this.state = element("span", "dora-state");
    this.state.setAttribute("role", "status");
    this.spoken = element("div", "dora-spoken"); // what only a screen reader says
    this.spoken.setAttribute("role", "status");
    this.figures = element("span", "dora-figures");
    this.detailsButton = element("button", "dora-button dora-more", "Details");
    const caption = element("div", "dora-caption", this.detailsButton, this.state, this.figures);
    this.details = element("dl", "dora-details");
    this.reason = element("div", "dora-reason");
    this.reason.setAttribute("role", "status");
    this.root.append(this.stage, this.buildBar(events), caption, this.details, this.reason, this.spoken);
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "group");
    const what = this.kinds.map((kind) => `${kind} of ${this.model.get(kind)}`).join(", ");
    this.root.setAttribute("aria-label", `Live view of ${topic}${what && ` with ${what}`}`);
    const scored = this.hasScores() ? ["[", "]"] : [];
    const keys = [...this.kinds.map((kind) => TOGGLES[kind].toUpperCase()), ...(what ? ["S"] : []), ...scored];
    const toolKeys = events ? Object.values(TOOLS).map(({ key }) => key.toUpperCase()) : [];
    this.root.setAttribute("aria-keyshortcuts", ["Space", ...keys, "F", ...toolKeys, "Plus", "-", "0"].join(" "));
  }

  buildBar(events) {
    this.pauseButton = element("button", "dora-button dora-pause");
    this.toggles = this.kinds.map((kind) => {
      const name = kind[0].toUpperCase() + kind.slice(1);
      const button = element("button", `dora-button dora-toggle dora-toggle-${kind}`, icon(kind), name);
      button.title = `Show or hide ${kind} (${TOGGLES[kind]})`;
      button.onclick = () => this.set(`show_${kind}`, !this.page.shows(kind));
      return { kind, button };
    });
    this.syncButton = element("button", "dora-button dora-sync", icon("sync"), "Sync");
    this.slider = element("input", "dora-slider");
    Object.assign(this.slider, { type: "range", min: 0, max: 1, step: SCORE_STEP });
    this.slider.setAttribute("aria-label", "Lowest score shown");
    this.slider.title = "Lowest score shown ([ and ])";
    this.score = element("span", "dora-score-value");
    const score = element("label", "dora-score", "Score ≥ ", this.score, this.slider);
    const bar = element("div", "dora-bar", this.pauseButton, ...this.toggles.map(({ button }) => button));
    if (this.kinds.length) bar.append(this.syncButton);
    if (this.hasScores()) bar.append(score);
    const right = element("span", "dora-right", this.buildTools(events), this.buildZoom(), this.buildExports());
    bar.append(right);
    return bar;
  }

  buildTools(events) {
    this.tools = Object.entries(events ? TOOLS : {}).map(([tool, { name, does, key }]) => {
      const button = iconButton(`dora-tool dora-tool-${tool}`, tool, name, `${does} (${key})`);
      button.onclick = () => this.page.chooseTool(tool);
      return { tool, button };
    });
    return this.tools.length ? group("Tools", ...this.tools.map(({ button }) => button)) : undefined;
  }

  buildZoom() {
    this.zoomOutButton = iconButton("dora-zoom-out", "zoomOut", "Zoom out", "Zoom out (-)");
    this.zoomInButton = iconButton("dora-zoom-in", "zoomIn", "Zoom in", "Zoom in (+); the arrow keys move the picture");
    this.zoomButton = element("button", "dora-button dora-zoom");
    this.zoomButton.title = "Show the whole picture (0)";
    return group("Zoom", this.zoomOutButton, this.zoomButton, this.zoomInButton);
  }

  buildExports() {
    this.snapshotButton = iconButton("dora-snapshot", "snapshot", "Snapshot", "Download the picture with its overlays");
    this.screenButton = iconButton("dora-screen", "fullScreen", "Full screen", "Full screen (f)");
    this.screenButton.hidden = !document.fullscreenEnabled;
    return group("Picture", this.snapshotButton, this.screenButton);
  }

  hasScores() {
    return this.kinds.includes("boxes") || this.kinds.includes("points");
  }

  listen() {
    this.pauseButton.onclick = () => this.page.togglePause();
    this.syncButton.onclick = () => this.set("sync", !this.page.ownBoxes());
    this.snapshotButton.onclick = () => this.downloadSnapshot();
    this.screenButton.onclick = () => this.toggleFullScreen();
    this.detailsButton.onclick = () => {
      this.page.detailsOpen = !this.page.detailsOpen;
      this.page.draw();
    };
    this.zoomInButton.onclick = () => this.zoomBy(ZOOM_STEP);
    this.zoomOutButton.onclick = () => this.zoomBy(1 / ZOOM_STEP);
    this.zoomButton.onclick = () => this.showAll();
    this.gestures = new Gestures(this.picture, this);
    this.picture.addEventListener("pointermove", (event) => this.hoverAt(event));
    this.picture.addEventListener("pointerleave", () => this.hoverAt(null));
    this.picture.ondblclick = () => this.page.tool === "hand" && this.showAll();
    this.onScreenChange = () => this.noteFullScreen();
    document.addEventListener("fullscreenchange", this.onScreenChange);
    this.slider.oninput = () => this.model.set("min_score", Number(this.slider.value));
    this.slider.onchange = () => this.model.save_changes();
    this.onSettings = () => {
      this.drawOverlay();
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
    this.sizer = new ResizeObserver(() => this.drawOverlay());
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
    const action = this.actionOf(event.key, event.shiftKey);
    if (!action) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    action();
  }

  actionOf(key, far) {
    const letter = key.length === 1 ? key.toLowerCase() : key;
    if (key === " ") return () => this.pauseButton.onclick();
    if (letter === "f") return () => this.toggleFullScreen();
    if (key === "+" || key === "=") return () => this.zoomBy(ZOOM_STEP);
    if (key === "-") return () => this.zoomBy(1 / ZOOM_STEP);
    if (key === "0") return () => this.showAll();
    const toggle = this.toggles.find(({ kind }) => letter === TOGGLES[kind]);
    if (toggle) return () => toggle.button.onclick();
    if (this.kinds.length && letter === "s") return () => this.syncButton.onclick();
    if (this.hasScores() && key === "[") return () => this.moveScore(-SCORE_STEP);
    if (this.hasScores() && key === "]") return () => this.moveScore(SCORE_STEP);
    const tool = this.tools.find((each) => letter === TOOLS[each.tool].key);
    if (tool) return () => tool.button.onclick();
    return this.placeAction(key, far);
  }

  /** What the arrow keys, Enter and Escape do: they move the picture, or pick a place of it. */
  placeAction(key, far) {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    const { zoom, tool, last } = this.page;
    if (tool === "hand") {
      if (!arrow || !zoom.zoomed) return null; // then they scroll the notebook
      return () => {
        zoom.pan(PAN_STEP * arrow[0], PAN_STEP * arrow[1]);
        this.page.zoomChanged();
      };
    }
    if (!last) return null;
    if (arrow) return () => this.picking.moveCursor(...arrow.map((step) => step * (far ? 10 : 1)));
    if (key === "Enter") return () => this.picking.enter(tool, this.shownNow());
    if (key !== "Escape" || !(this.picking.cursor || this.picking.from)) return null;
    return () => {
      this.picking.cursor = null;
      this.picking.cancel();
    };
  }

  // ----- zoom

  get zoom() {
    return this.page.zoom;
  }

  zoomChanged() {
    this.page.zoomChanged();
  }

  zoomBy(factor) {
    this.zoom.by(factor, ...this.middleToKeep());
    this.page.zoomChanged();
  }

  /** The cursor of the keyboard stays where it is; without one, the middle. */
  middleToKeep() {
    const { cursor } = this.picking;
    if (!cursor) return [0.5, 0.5];
    const { width, height } = this.page.sizeOfFrame();
    const { left, top, scale } = this.zoom;
    const within = (value) => clampTo(value, 0, 1);
    return [within((cursor[0] / width - left) * scale), within((cursor[1] / height - top) * scale)];
  }

  showAll() {
    this.zoom.reset();
    this.page.zoomChanged();
  }

  /** A wheel scrolls the notebook, unless a person works with the view. */
  mayWheel() {
    return this.root.contains(document.activeElement);
  }

  drawTools() {
    const percent = `${Math.round(100 * this.zoom.scale)} %`;
    setText(this.zoomButton, percent);
    this.zoomButton.setAttribute("aria-label", `Show the whole picture; zoom is ${percent}`);
    this.zoomButton.setAttribute("aria-disabled", String(!this.zoom.zoomed));
    this.zoomOutButton.setAttribute("aria-disabled", String(!this.zoom.zoomed));
    this.zoomInButton.setAttribute("aria-disabled", String(this.zoom.scale >= MAX_ZOOM));
    for (const { tool, button } of this.tools) {
      button.setAttribute("aria-pressed", String(tool === this.page.tool));
    }
    this.stage.dataset.tool = this.page.tool;
    this.stage.dataset.zoomed = String(this.zoom.zoomed);
    // Else a finger scrolls the notebook.
    this.picture.style.touchAction = this.draws() || this.zoom.zoomed ? "none" : "pan-x pan-y";
  }

  // ----- picking

  toolChanged() {
    this.picking.cursor = null;
    this.picking.cancel();
    this.drawTools();
  }

  draws() {
    return this.page.tool === "box" || this.page.tool === "line";
  }

  /** The place of the frame at a place of the view, from 0 to 1. */
  frameAt(at) {
    const { width, height } = this.page.sizeOfFrame();
    const [x, y] = this.zoom.toPicture(...at);
    const inside = (part, size) => clampTo(part * size, 0, this.draws() ? size : size - 0.01);
    return [inside(x, width), inside(y, height)];
  }

  middle() {
    return this.frameAt([0.5, 0.5]);
  }

  sizeOfFrame() {
    return this.page.sizeOfFrame();
  }

  shownNow() {
    return { seq: this.page.last.frame.seq, boxes: this.page.shownBoxes() };
  }

  pressBegan(at) {
    if (this.page.last) this.picking.press(this.frameAt(at), this.shownNow());
  }

  pressMoved(at) {
    if (this.page.last) this.picking.drag(this.frameAt(at));
  }

  pressEnded(at, moved) {
    if (this.page.last) this.picking.release(this.page.tool, this.frameAt(at), moved, this.shownNow());
  }

  pressCancelled() {
    this.picking.cancel();
  }

  /** Sends what was picked. `from` is where it began. */
  pick(kind, ends, from, { seq, boxes }) {
    const box = boxAt(boxes, ...from);
    const [x1, y1, x2, y2, , , , row] = box ?? [];
    this.page.numPicks++;
    const below = box && row !== undefined ? { row, corners: [x1, y1, x2, y2] } : null;
    const { width, height } = this.page.sizeOfFrame();
    this.page.send({ type: "pick", seq, kind, ends, size: [width, height], box: below });
    setText(this.spoken, `${kind} sent: ${this.placeText(from, boxes)}`);
    this.draw();
  }

  cursorMoved(cursor) {
    const { width, height } = this.page.sizeOfFrame();
    this.zoom.show((cursor[0] + 0.5) / width, (cursor[1] + 0.5) / height);
    this.page.wantPixel({ x: cursor[0], y: cursor[1] });
    setText(this.spoken, this.placeText(cursor, this.page.shownBoxes()));
    this.page.zoomChanged();
  }

  placeText([x, y], boxes) {
    const box = boxAt(boxes, x, y);
    return [`x ${Math.floor(x)}, y ${Math.floor(y)}`, box && tagText(box[5], box[4])].filter(Boolean).join(", ");
  }

  redraw() {
    this.drawOverlay();
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
    const context = canvas.getContext("2d", { alpha: false });
    const { width, height } = bitmap;
    const { left, top, scale } = this.zoom;
    context.imageSmoothingEnabled = scale < SHARP_ZOOM;
    const part = [left * width, top * height, width / scale, height / scale];
    context.drawImage(bitmap, ...part, 0, 0, width, height);
    this.drawOverlay();
    this.message.textContent = "";
    this.root.dataset.seq = String(frame.seq);
  }

  /** Draws at the resolution of the screen, not of the picture, so that text and lines stay crisp. */
  drawOverlay() {
    const last = this.page.last;
    const [width, height] = [this.picture.clientWidth, this.picture.clientHeight];
    if (!last || this.released || !width) return; // no width until it is on the page; then the sizer calls again
    const shown = this.page.shownOverlays();
    const { picking } = this;
    const drawsAny = shown.boxes.length || shown.points || shown.mask || shown.tracks;
    const isEmpty = !drawsAny && !picking.from && !picking.flash && !picking.cursor;
    if (isEmpty && this.overlayEmpty) return;
    this.overlayEmpty = isEmpty;
    const density = window.devicePixelRatio || 1;
    const context = this.clearedOverlay(width, height, density);
    context.setTransform(density, 0, 0, density, 0, 0);
    const frame = this.page.sizeOfFrame();
    const { left, top, scale } = this.zoom;
    const place = {
      scale: (width / frame.width) * scale,
      left: left * frame.width,
      top: top * frame.height,
      width,
      height,
    };
    const aim = picking.cursor ?? this.hover;
    const marked = aim && this.page.tool === "click" ? boxAt(shown.boxes, ...aim) : null;
    drawOverlays(context, shown, place, frame, { minScore: this.model.get("min_score"), marked });
    picking.draw(context, this.page.tool, place);
    this.drawLegend(shown.mask);
  }

  drawLegend(mask) {
    const entries = mask?.legend ?? [];
    const text = JSON.stringify(entries.slice(0, MAX_LEGEND).map(([label, colour]) => [label, colour]));
    if (text === this.legendText) return;
    this.legendText = text;
    const rows = entries.slice(0, MAX_LEGEND).map(([label, colour]) => {
      const swatch = element("span", "dora-swatch");
      swatch.style.background = colour;
      return element("div", "", swatch, label);
    });
    if (entries.length > MAX_LEGEND) rows.push(element("div", "", `${entries.length - MAX_LEGEND} more`));
    this.legend.replaceChildren(...rows);
  }

  /** Notes the place below the pointer. @param {PointerEvent | null} event */
  hoverAt(event) {
    if (!this.page.last) return;
    this.hover = event && this.frameAt(this.gestures.at(event));
    this.page.wantPixel(this.hover && { x: Math.floor(this.hover[0]), y: Math.floor(this.hover[1]) });
    if (this.page.tool === "click") this.drawOverlay();
  }

  drawPixel() {
    const aimed = this.picture.matches(":hover") || this.picking.cursor;
    const pixel = aimed ? this.page.pixel : null;
    setText(this.pixel, pixel ? `x ${pixel.x}  y ${pixel.y}  ${pixel.text}${this.maskText(pixel)}` : "");
  }

  maskText({ x, y }) {
    const { mask } = this.page.shownOverlays();
    const { width, height } = this.page.sizeOfFrame();
    const label = mask ? maskLabelAt(mask, x / width, y / height) : "";
    return label && `  ${label}`;
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
    const place = { scale, left: 0, top: 0, width: bitmap.width, height: bitmap.height };
    drawOverlays(context, unfaded(this.page.shownOverlays()), place, this.page.sizeOfFrame(), {
      minScore: this.model.get("min_score"),
    });
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
    this.drawOverlay();
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
    for (const { kind, button } of this.toggles) {
      button.setAttribute("aria-pressed", String(this.page.shows(kind)));
    }
    this.drawTools();
    this.slider.value = String(this.model.get("min_score"));
    setText(this.score, this.model.get("min_score").toFixed(2));
    const own = this.page.ownBoxes();
    this.syncButton.setAttribute("aria-pressed", String(own));
    this.syncButton.title = own
      ? "Show the newest picture and the newest boxes (s)"
      : "Show boxes on their own frames (s)";
    setText(this.figures, figuresText(this.page, state));
    this.detailsButton.hidden = !this.page.last;
    this.detailsButton.setAttribute("aria-expanded", String(this.page.detailsOpen));
    this.refreshDetails();
  }

  refreshDetails() {
    const rows = this.page.detailsOpen && this.page.last ? detailRows(this.page, this.kinds) : [];
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

  close() {
    super.close();
    this.picking.close();
    this.sizer.disconnect();
    window.removeEventListener("keydown", this.onKey, true);
    document.removeEventListener("fullscreenchange", this.onScreenChange);
    for (const name of SETTINGS) this.model.off(`change:${name}`, this.onSettings);
    this.releasePixels();
  }
}

export default pageWidget((page, model, host) => new CameraOutput(page, model, host), CameraPage);
