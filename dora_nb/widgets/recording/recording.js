// The page's side of RecordingView. The protocol is described at the top of view.py.
//
// page.js, the plot's canvas.js, the camera's drawing.js and timeline.js are prepended to this file.

const REC_SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4, 8, 16];
const ANSWER_MS = 10_000; // a question without an answer is asked again
const WINDOW_MS = 80; // while a person zooms, the kernel is asked this often
const SMALLEST_WINDOW_SECS = 0.01;
const REC_PLOT_HEIGHT = 120;
const REC_PLOT_MARGIN = { top: 6, bottom: 20 };
const MAX_MARK_BUTTONS = 80;
const REC_ICONS = {
  play: "M4 2.5v11l9-5.5z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  back: "M11 3v10L4 8zM2.5 3H4v10H2.5z",
  forward: "M5 3v10l7-5zM12 3h1.5v10H12z",
  previousEvent: "M8 3v10L2 8zM14 3v10L8 8z",
  nextEvent: "M8 3v10l6-5zM2 3v10l6-5z",
  zoomIn: "M7.2 3h1.6v4.2H13v1.6H8.8V13H7.2V8.8H3V7.2h4.2z",
  zoomOut: "M3 7.2h10v1.6H3z",
  whole: "M2 3h1.5v10H2zM12.5 3H14v10h-1.5zM4 8l3-3v2h2V5l3 3-3 3V9H7v2z",
};

class RecordingPage extends Page {
  constructor(model) {
    super(model);
    this.cursor = null;
    this.begin = 0;
    this.end = 1;
    this.playing = false;
    this.speed = 1;
    this.stepBy = -1;
    this.shown = []; // of each pane, what the kernel said last
    this.lanes = new Map();
    this.lines = new Map();
    this.marks = [];
    this.marksProblem = null;
    this.reading = false;
    this.hasFocus = false; // a view, or the one that took its place
    this.numWindows = 0;
    this.takenSeq = 0;
    this.moves = 0; // changes of the cursor by a person or the clock
    this.asked = null;
    this.steps = 0; // that still have to be asked for
  }

  get duration() {
    return this.status?.duration ?? 0;
  }

  get isEmpty() {
    return !this.status?.topics.length;
  }

  // ----- messages in

  receive(message, buffers) {
    super.receive(message, buffers);
    if (message?.type !== "status" || this.otherVersion) return;
    if (this.cursor === null) {
      this.cursor = message.cursor;
      [this.begin, this.end] = [0, Math.max(message.duration, SMALLEST_WINDOW_SECS)];
      const picture = message.panes.find(({ kind }) => kind === "picture");
      if (picture) this.stepBy = message.topics.indexOf(picture.topics[0]);
      this.draw();
    }
    if (message.greeting) {
      this.asked = null;
      this.ask();
      this.askWindow(0);
    }
  }

  take(message, buffers) {
    if (!(message.seq > this.takenSeq)) return;
    this.takenSeq = message.seq;
    this.drawn++;
    this.ack(message.seq);
    if (message.client !== this.client) return;
    if (message.type === "frame") this.takeFrame(message, buffers);
    else if (message.type === "marks") [this.marks, this.marksProblem] = [message.marks, message.problem];
    else if (message.id !== this.numWindows) return;
    else if (message.type === "lane") this.lanes.set(message.topic, { ...message, begin: this.askedBegin, end: this.askedEnd });
    else if (message.type === "lines") this.takeLines(message, buffers[0]);
    else if (message.type === "done") this.takeDone();
    this.drawSoon();
  }

  takeFrame({ secs, panes, problem }, buffers) {
    this.problem = problem ?? "";
    const asked = this.asked;
    this.asked = null;
    if (asked?.steps && asked.moves === this.moves) {
      this.cursor = secs;
      this.follow();
    }
    panes.forEach((pane, place) => {
      if (pane === null) return;
      this.shown[place] = pane;
      if (pane.buffer !== undefined) this.decode(pane, buffers[pane.buffer]);
    });
    if (this.steps || asked?.moves !== this.moves) this.ask();
  }

  /** Decodes a picture; the pane goes on to show the last one until then. */
  decode(pane, buffer) {
    const place = this.shown.indexOf(pane);
    createImageBitmap(new Blob([bytesOf(buffer)], { type: pane.mime })).then(
      (bitmap) => {
        // A newer picture may have been decoded before.
        if (this.shown[place] !== pane && this.decoded?.[place]?.order > pane.order) return bitmap.close();
        this.decoded ??= [];
        this.decoded[place]?.bitmap.close();
        this.decoded[place] = { ...pane, bitmap };
        this.drawSoon();
      },
      () => {
        pane.problem = "the browser cannot show this picture";
        this.broken++;
        this.drawSoon();
      },
    );
    pane.order = this.takenSeq;
  }

  takeLines({ pane, info, until, note, header }, buffer) {
    this.lines.set(pane, { info: info.map((each, number) => ({ ...each, number, ended: false })), columns: unpackColumns(header, buffer), until, note, begin: this.askedBegin, end: this.askedEnd });
  }

  takeDone() {
    this.reading = false;
    // What a log has at the cursor is known only now.
    if (this.shown.some((pane) => pane?.reading)) this.ask(true);
  }

  // ----- questions

  /** Asks for what is at the cursor, if the last question is answered. @param {boolean} [again] */
  ask(again = false) {
    if (this.cursor === null || this.isEmpty) return;
    const waits = this.asked && performance.now() - this.asked.ms < ANSWER_MS;
    if (waits) {
      if (again) this.asked.moves = -1; // once more when it is answered
      return;
    }
    const steps = this.steps;
    this.steps = 0;
    this.asked = { ms: performance.now(), moves: this.moves, steps };
    const have = this.status.panes.map((_, place) => this.shown[place]?.number ?? -3);
    this.send({ type: "show", secs: this.cursor, steps, by: this.stepBy, have });
  }

  /** Asks for the messages and lines of what the timeline shows. */
  askWindow(waitMs = WINDOW_MS) {
    if (this.windowTimer !== undefined || this.isEmpty) return;
    this.windowTimer = setTimeout(() => {
      this.windowTimer = undefined;
      [this.askedBegin, this.askedEnd] = [this.begin, this.end];
      this.reading = true;
      const width = Math.max(200, ...[...this.views].map(({ root }) => root.clientWidth));
      const columns = Math.round(Math.min(2000, width * (window.devicePixelRatio || 1)));
      this.send({ type: "window", id: ++this.numWindows, begin: this.begin, end: this.end, columns });
    }, waitMs);
  }

  // ----- the cursor

  goTo(secs) {
    if (this.cursor === null) return;
    this.steps = 0;
    this.cursor = clamp(secs, 0, this.duration);
    this.moves++;
    this.follow();
    this.ask();
    this.drawSoon();
  }

  step(count) {
    this.setPlaying(false);
    this.steps += count;
    this.ask();
  }

  /** Goes to the event before or after the cursor. */
  jump(direction) {
    const ahead = this.marks.filter(([secs]) => (secs - this.cursor) * direction > 1e-4);
    const found = direction > 0 ? ahead[0] : ahead[ahead.length - 1];
    if (found) this.goTo(found[0]);
  }

  setPlaying(playing) {
    if (playing === this.playing || this.cursor === null || this.isEmpty) return;
    this.playing = playing;
    cancelAnimationFrame(this.playFrame);
    if (playing) {
      if (this.cursor >= this.duration) this.goTo(0);
      this.tickMs = performance.now();
      this.playFrame = requestAnimationFrame(() => this.tick());
    } else {
      this.ask(true);
    }
    this.drawSoon();
  }

  tick() {
    const now = performance.now();
    // A page that was asleep goes on where it was.
    const passed = Math.min(now - this.tickMs, 250) / 1000;
    this.tickMs = now;
    this.goTo(this.cursor + passed * this.speed);
    if (this.cursor >= this.duration) this.setPlaying(false);
    if (this.playing) this.playFrame = requestAnimationFrame(() => this.tick());
  }

  // ----- the window

  /** Moves the window so that the cursor is in it. */
  follow() {
    if (this.cursor >= this.begin && this.cursor <= this.end) return;
    const size = this.end - this.begin;
    this.setWindow(this.cursor - (this.cursor < this.begin ? 0.9 : 0.1) * size, size);
  }

  zoomBy(factor, secs = this.cursor) {
    if (this.cursor === null) return;
    const size = clamp((this.end - this.begin) * factor, Math.min(SMALLEST_WINDOW_SECS, this.duration || 1), Math.max(this.duration, SMALLEST_WINDOW_SECS));
    this.setWindow(secs - ((secs - this.begin) / (this.end - this.begin)) * size, size);
  }

  setWindow(begin, size) {
    const last = Math.max(0, this.duration - size);
    this.begin = clamp(begin, 0, last);
    this.end = this.begin + size;
    this.askWindow();
    this.drawSoon();
  }

  reported(count) {
    if (!count) this.setPlaying(false);
    else if (this.cursor !== null) this.ask();
  }

  close() {
    this.playing = false;
    cancelAnimationFrame(this.playFrame);
    clearTimeout(this.windowTimer);
    this.decoded?.forEach((each) => each?.bitmap.close());
    super.close();
  }
}

/** The columns of a topic, see `Columns.packed` in reduction.py. */
function unpackColumns({ columns: count, series, first, column_secs: columnSecs, begin_secs: beginSecs }, buffer) {
  const data = bytesOf(buffer).slice().buffer; // aligned for the views below
  const values = new Float64Array(data, 0, 4 * series * count);
  const offsets = new Uint32Array(data, values.byteLength, count);
  const joined = new Uint8Array(data, values.byteLength + offsets.byteLength, series * count);
  return Array.from({ length: count }, (_, place) => {
    const number = first + offsets[place];
    const column = { number, secs: beginSecs + (number + 0.5) * columnSecs, values: new Float64Array(4 * series), joined: new Uint8Array(series) };
    for (let line = 0; line < series; line++) {
      column.joined[line] = joined[line * count + place];
      for (let kind = 0; kind < 4; kind++) column.values[4 * line + kind] = values[(kind * series + line) * count + place];
    }
    return column;
  });
}

// ----- one output

class RecordingOutput extends View {
  constructor(page, model, host) {
    super(page, host, "dora-frame dora-rec");
    this.build();
    this.listen();
    // The output was replaced to save another picture: a person goes on with the keys.
    if (page.hasFocus) requestAnimationFrame(() => this.slider.focus({ preventScroll: true }));
  }

  build() {
    this.title = element("b", "dora-rec-title");
    this.about = element("span", "dora-rec-about");
    this.buttons = {};
    const button = (name, title, onclick) => {
      const made = element("button", "dora-rec-button", svgIcon(REC_ICONS[name]));
      made.type = "button";
      made.title = title;
      made.setAttribute("aria-label", title);
      made.onclick = onclick;
      this.buttons[name] = made;
      return made;
    };
    const { page } = this;
    const transport = element(
      "div",
      "dora-rec-group",
      button("previousEvent", "Previous event ([)", () => page.jump(-1)),
      button("back", "Previous message (←)", () => page.step(-1)),
      button("play", "Play (Space)", () => page.setPlaying(!page.playing)),
      button("forward", "Next message (→)", () => page.step(1)),
      button("nextEvent", "Next event (])", () => page.jump(1)),
    );
    this.position = element("span", "dora-rec-position");
    this.speed = element("select", "dora-rec-select", ...REC_SPEEDS.map((each) => element("option", "", `${each}×`)));
    this.speed.selectedIndex = REC_SPEEDS.indexOf(1);
    this.speed.title = "Speed";
    this.speed.setAttribute("aria-label", "Speed");
    this.by = element("select", "dora-rec-select dora-rec-by");
    this.by.title = "Step by the messages of";
    this.by.setAttribute("aria-label", "Step by the messages of");
    const zoom = element(
      "div",
      "dora-rec-group dora-rec-zoom",
      button("zoomOut", "Zoom out (-)", () => page.zoomBy(2)),
      button("whole", "Show the whole recording", () => page.setWindow(0, Math.max(page.duration, SMALLEST_WINDOW_SECS))),
      button("zoomIn", "Zoom in (+)", () => page.zoomBy(0.5)),
    );
    this.bar = element("div", "dora-rec-bar", transport, this.position, this.speed, this.by, zoom);
    this.bar.setAttribute("role", "toolbar");
    this.bar.setAttribute("aria-label", "Playback");
    this.canvas = element("canvas", "dora-rec-lanes");
    this.marks = element("div", "dora-rec-marks");
    this.slider = element("div", "dora-rec-slider", this.canvas);
    this.slider.tabIndex = 0;
    this.slider.setAttribute("role", "slider");
    this.slider.setAttribute("aria-label", "Time");
    this.slider.setAttribute("aria-valuemin", "0");
    this.slider.setAttribute("aria-keyshortcuts", "Space ArrowLeft ArrowRight Home End + - [ ]");
    this.timeline = element("div", "dora-rec-timeline", this.slider, this.marks);
    this.event = element("div", "dora-rec-event");
    this.event.setAttribute("role", "status");
    this.pictures = element("div", "dora-rec-pictures");
    this.plots = element("div", "dora-rec-plots");
    this.texts = element("div", "dora-rec-texts");
    this.notes = element("div", "dora-rec-notes");
    this.reason = element("div", "dora-rec-reason");
    this.reason.setAttribute("role", "status");
    this.root.append(element("div", "dora-rec-head", this.title, this.about), this.reason, this.pictures, this.bar, this.timeline, this.event, this.plots, this.texts, this.notes);
    this.root.tabIndex = -1; // a click into it gives it the keys
    this.root.setAttribute("role", "group");
  }

  listen() {
    const { page } = this;
    this.speed.onchange = () => {
      page.speed = REC_SPEEDS[this.speed.selectedIndex];
    };
    this.by.onchange = () => {
      page.stepBy = this.by.selectedIndex - 1;
    };
    this.scrubs(this.slider, this.canvas);
    // In the capture phase at the window, before a notebook's shortcuts.
    this.onKey = (event) => this.handleKey(event);
    window.addEventListener("keydown", this.onKey, true);
    this.root.addEventListener("focusin", () => {
      page.hasFocus = true;
    });
    this.root.addEventListener("focusout", () => {
      // Later, since an element also loses the focus when the output is replaced, which removes it.
      setTimeout(() => {
        if (!this.root.isConnected || this.root.contains(document.activeElement)) return;
        page.hasFocus = false;
        page.send({ type: "left" });
      });
    });
    this.sizer = new ResizeObserver(() => this.drawCanvases());
    this.sizer.observe(this.root);
  }

  /** Lets a drag over an element move the cursor, and a wheel zoom. @param {HTMLElement} part */
  scrubs(part, canvas) {
    const { page } = this;
    const secsAt = ({ clientX }) => {
      const { left } = canvas.getBoundingClientRect();
      const { begin, width } = this.area(canvas);
      return page.begin + ((clientX - left - begin) / width) * (page.end - page.begin);
    };
    part.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      part.setPointerCapture(event.pointerId);
      this.dragging = part;
      page.setPlaying(false);
      page.goTo(clamp(secsAt(event), page.begin, page.end));
    });
    part.addEventListener("pointermove", (event) => {
      if (this.dragging === part) page.goTo(clamp(secsAt(event), page.begin, page.end));
    });
    for (const name of ["pointerup", "pointercancel"]) {
      part.addEventListener(name, () => {
        this.dragging = undefined;
      });
    }
    // A wheel scrolls the notebook, unless a person works with the view.
    part.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !this.root.contains(document.activeElement)) return;
        event.preventDefault();
        const size = page.end - page.begin;
        const turn = clamp(event.deltaY || event.deltaX, -100, 100);
        if (event.shiftKey || (!event.deltaY && event.deltaX)) page.setWindow(page.begin + (turn / 500) * size, size);
        else page.zoomBy(Math.exp(turn / 300), secsAt(event));
      },
      { passive: false },
    );
  }

  /** Where times lie on a canvas. */
  area(canvas) {
    const begin = gutterOf(canvas.clientWidth);
    return { begin, width: Math.max(1, canvas.clientWidth - begin - TIMELINE_RIGHT) };
  }

  handleKey(event) {
    const path = event.composedPath();
    if (event.ctrlKey || event.metaKey || event.altKey || !path.includes(this.root)) return;
    const [target] = path;
    if (target instanceof HTMLSelectElement) return;
    if (target instanceof HTMLButtonElement && [" ", "Enter"].includes(event.key)) return event.stopImmediatePropagation();
    const { page } = this;
    const far = event.shiftKey;
    const actions = {
      " ": () => page.setPlaying(!page.playing),
      ArrowLeft: () => (far ? page.goTo(page.cursor - 1) : page.step(-1)),
      ArrowRight: () => (far ? page.goTo(page.cursor + 1) : page.step(1)),
      Home: () => page.goTo(0),
      End: () => page.goTo(page.duration),
      "+": () => page.zoomBy(0.5),
      "=": () => page.zoomBy(0.5),
      "-": () => page.zoomBy(2),
      "[": () => page.jump(-1),
      "]": () => page.jump(1),
    };
    if (!Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    actions[event.key]();
  }

  // ----- words

  draw() {
    const { page } = this;
    const reason = page.lostReason() || page.problem || "";
    setText(this.reason, reason);
    this.reason.hidden = !reason;
    if (!page.status || page.cursor === null) return;
    if (page.lostReason()) page.setPlaying(false);
    if (this.shownStatus !== page.status) {
      this.shownStatus = page.status;
      this.drawStatus(page.status);
    }
    this.drawPosition();
    this.drawEvent();
    this.drawTexts();
    this.drawCanvases();
    this.root.dataset.seq = String(page.takenSeq);
    this.root.dataset.state = page.playing ? "playing" : page.reading ? "reading" : "paused";
  }

  drawStatus(status) {
    const { page } = this;
    setText(this.title, status.title);
    const began = new Date(status.start * 1000);
    const size = page.isEmpty ? "" : `${spanText(status.duration, 1)}, ${status.size}, from ${began.toLocaleDateString()} ${began.toLocaleTimeString()}`;
    setText(this.about, size);
    this.root.setAttribute("aria-label", `Recording ${status.title}`);
    this.slider.setAttribute("aria-valuemax", status.duration.toFixed(3));
    for (const part of [this.bar, this.timeline, this.event]) part.hidden = page.isEmpty;
    const notes = page.isEmpty ? ["it has no messages", ...status.notes] : status.notes;
    this.shownNotes = notes;
    const key = JSON.stringify([status.panes, status.topics]);
    if (this.shownPanes === key) return;
    this.shownPanes = key;
    this.by.replaceChildren(element("option", "", "all topics"), ...status.topics.map((topic) => element("option", "", topic)));
    this.by.selectedIndex = page.stepBy + 1;
    this.timeline.style.height = `${MARKS_HEIGHT + AXIS_HEIGHT + status.topics.length * LANE_HEIGHT + 4}px`;
    this.panes = status.panes.map((pane) => this.makePane(pane));
    for (const [part, kinds] of [[this.pictures, ["picture"]], [this.plots, ["plot"]], [this.texts, ["log", "values"]]]) {
      part.replaceChildren(...this.panes.filter(({ kind }) => kinds.includes(kind)).map(({ node }) => node));
    }
  }

  makePane({ kind, topics, boxes }) {
    const name = kind === "values" ? "Other topics" : [...topics, ...boxes].join(" + ");
    const caption = element("div", "dora-rec-caption", element("span", "dora-rec-name", name));
    const about = element("span", "dora-rec-quiet");
    caption.append(about);
    const node = element("section", `dora-rec-pane dora-rec-${kind}`, caption);
    node.setAttribute("aria-label", name);
    const pane = { kind, topics, boxes, node, about, canvas: undefined, body: undefined };
    if (kind === "picture" || kind === "plot") {
      pane.canvas = element("canvas", "dora-rec-canvas");
      pane.canvas.setAttribute("role", "img");
      pane.canvas.setAttribute("aria-label", name);
      node.append(pane.canvas);
      if (kind === "plot") {
        pane.legend = element("div", "dora-rec-legend");
        node.append(pane.legend);
        this.scrubs(pane.canvas, pane.canvas);
      } else {
        pane.message = element("div", "dora-rec-message");
        node.append(pane.message);
      }
    } else {
      pane.body = element("div", kind === "log" ? "dora-rec-lines" : "dora-rec-table");
      pane.body.tabIndex = 0; // so that it can be scrolled by keys
      pane.body.setAttribute("role", "region");
      pane.body.setAttribute("aria-label", name);
      node.append(pane.body);
    }
    return pane;
  }

  drawPosition() {
    const { page } = this;
    const digits = page.end - page.begin < 1 ? 4 : 3;
    const text = `${spanText(page.cursor, digits)} / ${spanText(page.duration, 1)}`;
    setText(this.position, text);
    this.position.title = `received at ${clockText(page.status.start + page.cursor)}`;
    this.slider.setAttribute("aria-valuenow", page.cursor.toFixed(3));
    this.slider.setAttribute("aria-valuetext", text);
    const name = page.playing ? "pause" : "play";
    if (this.playShown !== name) {
      this.playShown = name;
      this.buttons.play.replaceChildren(svgIcon(REC_ICONS[name]));
      this.buttons.play.title = page.playing ? "Pause (Space)" : "Play (Space)";
      this.buttons.play.setAttribute("aria-label", this.buttons.play.title);
    }
    this.buttons.previousEvent.disabled = !page.marks.some(([secs]) => secs < page.cursor - 1e-4);
    this.buttons.nextEvent.disabled = !page.marks.some(([secs]) => secs > page.cursor + 1e-4);
    const notes = [...(this.shownNotes ?? []), page.marksProblem].filter(Boolean);
    const key = notes.join("\n");
    if (this.notesKey !== key) {
      this.notesKey = key;
      this.notes.replaceChildren(...notes.map((note) => element("div", "", note)));
    }
  }

  /** The event at the cursor, in words. */
  drawEvent() {
    const { page } = this;
    const near = (page.end - page.begin) / 200;
    const found = page.marks.filter(([secs]) => Math.abs(secs - page.cursor) <= near);
    const nearest = found.sort(([one], [other]) => Math.abs(one - page.cursor) - Math.abs(other - page.cursor))[0];
    setText(this.event, nearest ? `${spanText(nearest[0], 2)}, ${MARK_NAMES[nearest[1]] ?? nearest[1]}: ${nearest[2]}` : "");
    this.event.dataset.kind = nearest?.[1] ?? "";
  }

  drawTexts() {
    const { page } = this;
    this.panes?.forEach((pane, place) => {
      const shown = page.shown[place];
      if (!shown || pane.shown === shown) return;
      if (pane.kind === "log") this.drawLog(pane, shown);
      else if (pane.kind === "values") this.drawValues(pane, shown);
      else return;
      pane.shown = shown;
    });
  }

  drawLog(pane, { lines, reading, problem }) {
    setText(pane.about, problem ?? (reading ? "being read" : ""));
    const rows = (lines ?? []).map(([secs, node, level, text]) => {
      const row = element(
        "div",
        "dora-rec-line",
        element("span", "dora-rec-secs", secs.toFixed(2)),
        element("span", "dora-rec-level", level),
        element("span", "dora-rec-node", node),
        element("span", "dora-rec-text", text),
      );
      row.dataset.level = level;
      row.title = "Go to this line";
      row.onclick = () => this.page.goTo(secs);
      return row;
    });
    if (!rows.length) rows.push(element("div", "dora-rec-quiet", reading ? "" : "no lines yet"));
    pane.body.replaceChildren(...rows);
    pane.body.scrollTop = pane.body.scrollHeight;
  }

  drawValues(pane, { rows, problem }) {
    setText(pane.about, problem ?? "");
    const made = (rows ?? []).map(([topic, secs, text]) => {
      const when = secs === null ? "" : `${Math.max(0, this.page.cursor - secs).toFixed(1)} s ago`;
      return element(
        "tr",
        "",
        element("th", "", topic),
        element("td", "", text || "no message yet"),
        element("td", "dora-rec-quiet", when),
      );
    });
    pane.body.replaceChildren(element("table", "", element("tbody", "", ...made)));
  }

  // ----- pixels

  style() {
    const computed = getComputedStyle(this.root);
    const value = (name) => computed.getPropertyValue(name).trim();
    const quiet = getComputedStyle(this.about).color;
    const theme = plotTheme(this.root, quiet);
    return { ...theme, lane: value("--dora-lane"), gap: value("--dora-gap"), cursor: value("--dora-cursor") };
  }

  drawCanvases() {
    const { page } = this;
    if (!page.status || page.cursor === null || page.isEmpty) return;
    const style = this.style();
    const context = freshContext(this.canvas);
    if (context) {
      const { begin: left } = this.area(this.canvas);
      const { begin, end, lanes, cursor } = page;
      drawTimeline(context, style, { width: this.canvas.clientWidth, left, begin, end, topics: page.status.topics, lanes, cursor });
    }
    this.drawMarks();
    this.panes?.forEach((pane, place) => {
      if (pane.kind === "picture") this.drawPicture(pane, place);
      else if (pane.kind === "plot") this.drawPlot(pane, place, style);
    });
  }

  drawMarks() {
    const { page } = this;
    const { begin, width } = this.area(this.canvas);
    const toX = (secs) => begin + (width * (secs - page.begin)) / (page.end - page.begin);
    const key = `${page.begin} ${page.end} ${width} ${page.marks.length}`;
    if (this.marksKey === key) return;
    this.marksKey = key;
    const groups = groupedMarks(page.marks, toX, begin, begin + width).slice(0, MAX_MARK_BUTTONS);
    this.marks.replaceChildren(
      ...groups.map(({ x, secs, kind, members }) => {
        const made = element("button", "dora-rec-mark", svgIcon(MARK_GLYPHS[kind] ?? MARK_GLYPHS.param));
        made.type = "button";
        made.dataset.kind = kind;
        made.style.left = `${x}px`;
        const texts = members.slice(0, 8).map(([at, each, text]) => `${spanText(at, 2)}, ${MARK_NAMES[each] ?? each}: ${text}`);
        if (members.length > 8) texts.push(`and ${members.length - 8} more`);
        made.title = texts.join("\n");
        made.setAttribute("aria-label", texts.join("; "));
        made.onclick = () => {
          page.setPlaying(false);
          page.goTo(secs);
        };
        return made;
      }),
    );
  }

  drawPicture(pane, place) {
    const { page } = this;
    const shown = page.shown[place];
    const found = page.decoded?.[place];
    const problem = shown?.problem ?? (shown?.empty ? "no picture yet" : "");
    setText(pane.message, problem);
    pane.message.hidden = !problem;
    pane.canvas.hidden = Boolean(problem) || !found;
    if (pane.canvas.hidden) return;
    const frame = { width: found.width || found.bitmap.width, height: found.height || found.bitmap.height };
    pane.canvas.style.aspectRatio = `${frame.width} / ${frame.height}`;
    const context = freshContext(pane.canvas);
    if (!context) return;
    const [width, height] = [pane.canvas.clientWidth, pane.canvas.clientHeight];
    context.drawImage(found.bitmap, 0, 0, width, height);
    const scale = width / frame.width;
    const { boxes, lag } = found;
    drawOverlays(context, { boxes: boxes ?? [], lag: lag ?? undefined }, { scale, left: 0, top: 0, width, height }, frame, { minScore: 0 });
    const names = (boxes ?? []).slice(-10).map(([, , , , score, label]) => tagText(label, score));
    setText(pane.about, [`${frame.width}×${frame.height}`, `${found.secs.toFixed(3)} s`, ...(found.notes ?? [])].join(", "));
    pane.canvas.setAttribute("aria-label", `${pane.topics[0]} at ${found.secs.toFixed(3)} s${names.length ? `: ${names.join(", ")}` : ""}`);
  }

  drawPlot(pane, place, style) {
    const { page } = this;
    const { canvas } = pane;
    canvas.style.height = `${REC_PLOT_HEIGHT}px`;
    const context = freshContext(canvas);
    if (!context) return;
    const { begin: left, width } = this.area(canvas);
    const area = { left, top: REC_PLOT_MARGIN.top, width, height: REC_PLOT_HEIGHT - REC_PLOT_MARGIN.top - REC_PLOT_MARGIN.bottom };
    const lines = page.lines.get(place);
    const { begin, end } = page;
    const range = lines ? rangeOf(lines.columns, lines.info.length, begin, end) : null;
    const scale = range ? scaleTo(area, range, begin, end) : { toX: (secs) => left + (width * (secs - begin)) / (end - begin), toY: () => area.top };
    drawAxes(context, style, area, { begin, end, zero: 0, isNow: false, range, ...scale });
    if (lines) {
      context.save();
      context.beginPath();
      context.rect(area.left, area.top, area.width, area.height);
      context.clip();
      if (range) lines.info.forEach((info, line) => drawLine(context, style, { columns: lines.columns, line, info }, begin, end, scale.toX, scale.toY));
      if (page.reading && lines.until < end) {
        const x = Math.max(left, scale.toX(lines.until));
        context.fillStyle = style.grid;
        context.fillRect(x, area.top, left + width - x, area.height);
      }
      context.restore();
    }
    const x = scale.toX(page.cursor);
    if (x >= left - 1 && x <= left + width + 1) drawCursor(context, style, x, area.top, area.top + area.height);
    this.drawLegend(pane, lines, style);
  }

  /** The lines with their values at the cursor. */
  drawLegend(pane, lines, style) {
    const { page } = this;
    setText(pane.about, lines?.note ?? (lines || !page.reading ? "" : "being read"));
    if (!lines) return;
    const names = lines.info.map(({ label }) => label).join("\n");
    if (pane.legendKey !== `${names} ${style.dark}`) {
      pane.legendKey = `${names} ${style.dark}`;
      pane.values = lines.info.map(() => element("b", ""));
      pane.legend.replaceChildren(
        ...lines.info.map((info, line) => {
          const swatch = element("span", "dora-rec-swatch");
          swatch.style.background = lineColour(info.number, style);
          const topic = pane.topics[0];
          const label = info.label.startsWith(topic) ? info.label.slice(topic.length).replace(/^\./, "") || topic : info.label;
          return element("span", "dora-rec-entry", swatch, element("span", "", label), pane.values[line]);
        }),
      );
    }
    const at = placeOf(lines.columns, page.cursor + (lines.columns[1] ? (lines.columns[1].secs - lines.columns[0].secs) / 2 : 0)) - 1;
    lines.info.forEach(({ unit, step }, line) => {
      const value = lines.columns[Math.max(0, at)]?.values[4 * line + LAST];
      const known = at >= 0 && value === value && value !== undefined;
      const text = step ? (value ? "true" : "false") : valueText(value ?? 0);
      setText(pane.values[line], known ? `${text}${unit ? ` ${unit}` : ""}` : "–");
    });
  }

  close() {
    window.removeEventListener("keydown", this.onKey, true);
    this.sizer.disconnect();
    super.close();
  }
}

/** The range of all lines within a window, with some room; null without a value. */
function rangeOf(columns, series, begin, end) {
  let [low, high] = [Infinity, -Infinity];
  for (let place = Math.max(0, placeOf(columns, begin) - 1); place < columns.length && columns[place].secs <= end; place++) {
    const { values } = columns[place];
    for (let line = 0; line < series; line++) {
      // NaN, where the line has no value, is neither lower nor higher.
      if (values[4 * line + MINIMUM] < low) low = values[4 * line + MINIMUM];
      if (values[4 * line + MAXIMUM] > high) high = values[4 * line + MAXIMUM];
    }
  }
  return low <= high ? padded(low, high) : null;
}

export default pageWidget((page, model, host) => new RecordingOutput(page, model, host), RecordingPage);
