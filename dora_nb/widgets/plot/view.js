// The page's side of PlotView. The protocol is described at the top of view.py.
//
// A PlotPage belongs to a model: it keeps the columns, and what of them is shown. A PlotOutput belongs to an
// output: it draws. page.js and canvas.js are prepended to this file.

const FRAME_MS = 30;
const CALM_FRAME_MS = 1000; // for those who prefer reduced motion: a step a second, no scrolling
const REFRESH_MS = 1000;
const ASK_PART_MS = 120;
const CLOCK_STEP_SECS = 0.5; // a larger difference is a pause of the kernel's or of the browser's
const DRAG_PIXELS = 4;
const NEAR_PIXELS = 12;
const MAX_TIP_ROWS = 10;
/** @typedef {{number: number, secs: number, values: Float64Array, joined: Uint8Array}} Column
 *   values: first, minimum, maximum and last of each series, NaN without a value */

// ----- pure

/** @returns {Column[]} */
function unpack(header, buffer) {
  const { columns: count, series, first, column_secs: columnSecs, begin_secs: beginSecs } = header;
  const data = bytesOf(buffer).slice().buffer; // aligned for the views below
  const values = new Float64Array(data, 0, 4 * series * count);
  const offsets = new Uint32Array(data, values.byteLength, count);
  const joined = new Uint8Array(data, values.byteLength + offsets.byteLength, series * count);
  return Array.from({ length: count }, (_, place) => {
    const number = first + offsets[place];
    const column = {
      number,
      secs: beginSecs + (number + 0.5) * columnSecs,
      values: new Float64Array(4 * series),
      joined: new Uint8Array(series),
    };
    for (let line = 0; line < series; line++) {
      column.joined[line] = joined[line * count + place];
      for (let kind = 0; kind < 4; kind++) {
        column.values[4 * line + kind] = values[(kind * series + line) * count + place];
      }
    }
    return column;
  });
}

function rateText(rate) {
  return `${rate} msg/s`;
}

// ----- one model

class PlotPage extends Page {
  constructor(model) {
    super(model);
    this.seconds = model.get("seconds");
    this.topics = model.get("topics").map((topic) => ({ topic, info: [], columns: [], columnSecs: 1, series: 0 }));
    this.panes = model.get("panes").map((places) => ({ places, auto: null, zoomed: null }));
    /** @type {Set<string>} the keys of lines that a person hides */
    this.hidden = new Set();
    this.takenSeq = 0;
    this.hasUndrawn = false;
    this.clockSecs = null; // the kernel's clock less ours
    this.frozenEnd = null; // this page was paused, and the kernel may not know it yet
    this.liveSpan = this.span = this.seconds;
    this.end = null; // of a part into which a person has zoomed
    this.part = null;
    this.numAsked = 0;
    this.drawnMs = 0;
    this.frames = 0;
    this.infoNumber = 0; // counts up when lines have changed
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.onPaused = () => this.pausedChanged();
    model.on("change:paused", this.onPaused);
    this.refreshTimer = setInterval(() => this.refresh(), REFRESH_MS);
    this.pausedChanged();
  }

  get paused() {
    return this.model.get("paused");
  }

  // ----- messages

  take(message, buffers) {
    if (message.type === "lines") this.takeLines(message, buffers);
    else if (message.type === "part") this.takePart(message, buffers);
  }

  takeLines({ seq, end, topics }, buffers) {
    if (!(seq > this.takenSeq)) return;
    this.takenSeq = seq;
    this.noteClock(end);
    topics.forEach((header, place) => this.merge(header, buffers[place]));
    if (this.hasUndrawn) this.dropped++;
    this.hasUndrawn = true;
    this.ack(seq);
    if (this.moving) this.run();
    else this.drawSoon();
  }

  merge(header, buffer) {
    const topic = this.topics[header.i];
    if (header.info) {
      topic.info = header.info;
      this.infoNumber++;
    }
    if (header.fresh || header.series !== topic.series) topic.columns = [];
    topic.series = header.series;
    topic.columnSecs = header.column_secs;
    const { columns } = topic;
    const added = unpack(header, buffer);
    if (!added.length) return;
    while (columns.length && columns[columns.length - 1].number >= added[0].number) columns.pop();
    columns.push(...added);
    const kept = columns[columns.length - 1].number - this.seconds / topic.columnSecs - 2;
    let gone = 0;
    while (columns[gone].number < kept) gone++;
    if (gone) columns.splice(0, gone);
  }

  noteClock(end) {
    const clock = end - performance.now() / 1000;
    const off = this.clockSecs === null ? Infinity : clock - this.clockSecs;
    this.clockSecs = Math.abs(off) > CLOCK_STEP_SECS ? clock : this.clockSecs + 0.1 * off;
  }

  takePart({ client, id, begin, end, topics }, buffers) {
    if (client !== this.client || id !== this.numAsked) return;
    this.part = { begin, end, topics: topics.map((header, place) => unpack(header, buffers[place])) };
    this.part.series = topics.map((header) => header.series);
    this.drawSoon();
  }

  reported(count) {
    if (count) this.run();
  }

  // ----- time

  /** Whether the window scrolls. */
  get moving() {
    const state = this.status?.state;
    if (this.paused || this.clockSecs === null || this.lostReason()) return false;
    return this.status?.end == null || state === "paused";
  }

  /** Where the window of the kernel ends. */
  latest() {
    const { status } = this;
    if (status?.end != null && (status.state !== "paused" || this.paused)) return status.end;
    if (this.frozenEnd !== null) return this.frozenEnd;
    return this.clockSecs === null ? null : this.clockSecs + performance.now() / 1000;
  }

  /** What is shown: begin and end. */
  window() {
    const end = this.end ?? this.latest() ?? 0;
    return [end - this.span, end];
  }

  get zoomed() {
    return this.span !== this.seconds || this.end !== null || this.panes.some((pane) => pane.zoomed);
  }

  /** Draws as often as the page does, at most 30 times a second if nothing came. */
  run() {
    if (this.runFrame !== undefined || !this.moving || !this.visibleCount()) return;
    this.runFrame = requestAnimationFrame((nowMs) => {
      this.runFrame = undefined;
      const waitMs = this.calm.matches ? CALM_FRAME_MS : this.hasUndrawn ? 0 : FRAME_MS;
      if (nowMs - this.drawnMs >= waitMs) {
        this.drawnMs = nowMs;
        for (const view of this.views) if (view.visible) view.draw();
      }
      this.run();
    });
  }

  noteDrawn() {
    this.frames++;
    if (this.hasUndrawn) this.drawn++;
    this.hasUndrawn = false;
  }

  refresh() {
    for (const view of this.views) if (view.visible) view.refresh();
    this.run();
  }

  // ----- what a person does

  setPaused(paused) {
    if (paused === this.paused) return;
    this.model.set("paused", paused);
    this.model.save_changes();
  }

  pausedChanged() {
    this.frozenEnd = this.paused ? this.latest() : null;
    if (!this.paused) {
      this.span = this.liveSpan;
      this.end = this.part = null;
    }
    this.draw();
    this.run();
  }

  /** Shows that part, which pauses the plot. */
  zoomTo(begin, end) {
    this.setPaused(true);
    const latest = this.latest();
    if (latest === null) return;
    this.span = clamp(end - begin, this.seconds / 1e5, this.seconds);
    this.end = clamp(end, latest - this.seconds + this.span, latest);
    this.askPart();
    this.drawSoon();
  }

  /** Zooms in time about a moment; a plot that scrolls keeps its end. */
  zoomBy(factor, about = null) {
    const span = clamp(this.span * factor, this.seconds / 1e5, this.seconds);
    if (!this.paused) {
      this.liveSpan = this.span = Math.max(span, Math.min(0.5, this.seconds));
      return this.drawSoon();
    }
    const [begin, end] = this.window();
    const middle = about ?? (begin + end) / 2;
    const newBegin = middle - ((middle - begin) * span) / this.span;
    this.zoomTo(newBegin, newBegin + span);
  }

  /** Moves by a part of the window. */
  move(part) {
    this.setPaused(true);
    const [begin, end] = this.window();
    this.zoomTo(begin + part * this.span, end + part * this.span);
  }

  zoomY(panes, factor) {
    for (const pane of panes) {
      const range = pane.zoomed ?? this.model.get("y") ?? pane.auto;
      if (range) pane.zoomed = scaled(range, factor);
    }
    this.drawSoon();
  }

  resetZoom() {
    this.liveSpan = this.span = this.seconds;
    this.end = this.part = null;
    for (const pane of this.panes) pane.zoomed = null;
    this.askPart();
    this.drawSoon();
  }

  /** Asks for the part in the resolution of the screen, once a person has stopped zooming. */
  askPart() {
    clearTimeout(this.partTimer);
    const number = ++this.numAsked; // answers to earlier questions are too late
    this.partTimer = setTimeout(() => {
      if (this.end === null) return this.send({ type: "part", id: number, begin: 0, end: 0, columns: 0 });
      const [begin, end] = this.window();
      const columns = Math.max(1, ...[...this.views].map((view) => Math.ceil(view.plotWidth())));
      this.send({ type: "part", id: number, begin, end, columns });
    }, ASK_PART_MS);
  }

  keyOf(place, info) {
    return `${place} ${info.label}`;
  }

  toggle(key) {
    if (!this.hidden.delete(key)) this.hidden.add(key);
    this.draw();
  }

  /** The lines of a pane: {place, line, info, key, hidden, columns}. */
  linesOf(pane) {
    const [begin, end] = this.window();
    const { part } = this;
    const fits = part && this.end !== null && part.begin <= begin + 1e-6 && part.end >= end - 1e-6;
    return pane.places.flatMap((place) => {
      const topic = this.topics[place];
      const useful = fits && part.series[place] === topic.series;
      const columns = useful ? part.topics[place] : topic.columns;
      return topic.info.map((info, line) => {
        const key = this.keyOf(place, info);
        return { place, line, info, key, hidden: this.hidden.has(key), columns };
      });
    });
  }

  close() {
    clearInterval(this.refreshTimer);
    clearTimeout(this.partTimer);
    cancelAnimationFrame(this.runFrame);
    this.model.off("change:paused", this.onPaused);
    super.close();
  }
}

// ----- one output

const PLOT_ICONS = {
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  resume: "M4.5 2.2 13 8l-8.5 5.8z",
  reset: "M2 2h4.5v1.4H3.4v3.1H2zM9.5 2H14v4.5h-1.4V3.4H9.5zM2 9.5h1.4v3.1h3.1V14H2zM12.6 9.5H14V14H9.5v-1.4h3.1z",
};

const plotIcon = (name) => svgIcon(PLOT_ICONS[name]);

class PlotOutput extends View {
  constructor(page, model, host) {
    super(page, host, "dora-frame dora-plot");
    this.model = model;
    this.left = 48;
    this.legendNumber = -1;
    this.pointer = null; // {pane, x, y, from}: over a canvas, and where a drag began
    this.build();
    this.listen();
    this.refresh();
    this.restoreFocus();
  }

  build() {
    const names = this.page.topics.map(({ topic }) => topic).join(", ");
    this.panes = this.page.panes.map((pane) => this.buildPane(pane));
    this.pauseButton = element("button", "dora-plot-button dora-plot-pause");
    this.resetButton = element("button", "dora-plot-button dora-plot-reset", plotIcon("reset"), "Show all");
    this.resetButton.title = "Show all again (0)";
    this.resetButton.hidden = true;
    this.state = element("span", "dora-plot-state");
    this.state.setAttribute("role", "status");
    this.message = element("div", "dora-plot-message");
    this.reason = element("div", "dora-plot-reason");
    this.reason.setAttribute("role", "status");
    const bar = element("div", "dora-plot-bar", this.pauseButton, this.resetButton, this.state);
    this.root.append(...this.panes.map(({ root }) => root), bar, this.reason);
    this.panes[0].stage.append(this.message);
    this.root.classList.toggle("dora-plot-stacked", this.panes.length > 1);
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", `Plot of ${names}`);
    this.root.setAttribute("aria-keyshortcuts", "Space + - 0 ArrowLeft ArrowRight ArrowUp ArrowDown");
  }

  buildPane(pane) {
    const canvas = element("canvas", "dora-plot-canvas");
    canvas.setAttribute("role", "img");
    const tip = element("div", "dora-plot-tip");
    tip.setAttribute("aria-hidden", "true");
    tip.hidden = true;
    const stage = element("div", "dora-plot-stage", canvas, tip);
    const legend = element("div", "dora-plot-legend");
    legend.setAttribute("role", "group");
    legend.setAttribute("aria-label", "Lines; press to hide or show");
    return { pane, canvas, tip, stage, legend, facts: new Map(), root: element("div", "dora-plot-pane", stage, legend) };
  }

  listen() {
    this.pauseButton.onclick = () => this.page.setPaused(!this.page.paused);
    this.resetButton.onclick = () => {
      this.page.resetZoom();
      this.root.focus({ preventScroll: true }); // the button is about to vanish
    };
    for (const shown of this.panes) this.listenTo(shown);
    // In the capture phase at the window, before a notebook's shortcuts: in JupyterLab "0" restarts the kernel.
    this.onKey = (event) => this.handleKey(event);
    window.addEventListener("keydown", this.onKey, true);
    this.root.addEventListener("focusin", ({ target }) => {
      this.page.focus = { part: [...target.classList].pop() ?? "", leftMs: Infinity };
    });
    this.root.addEventListener("focusout", () => {
      if (this.page.focus) this.page.focus.leftMs = performance.now();
    });
    this.sizer = new ResizeObserver(() => this.draw());
    this.sizer.observe(this.root);
  }

  listenTo(shown) {
    const { canvas, pane } = shown;
    canvas.onpointermove = (event) => {
      this.pointer = { ...this.pointer, shown, x: event.offsetX, y: event.offsetY };
      this.page.drawSoon();
    };
    canvas.onpointerleave = () => {
      this.pointer = null;
      this.page.drawSoon();
    };
    canvas.onpointerdown = (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;
      this.pointer = { shown, x: event.offsetX, y: event.offsetY, from: event.offsetX };
      canvas.setPointerCapture(event.pointerId);
    };
    canvas.onpointerup = (event) => {
      const from = this.pointer?.from;
      if (from === undefined) return;
      delete this.pointer.from;
      if (Math.abs(event.offsetX - from) > DRAG_PIXELS) {
        const [begin, end] = [from, event.offsetX].map((x) => this.secsAt(x)).sort((a, b) => a - b);
        this.page.zoomTo(begin, end);
      }
      this.page.drawSoon();
    };
    canvas.ondblclick = () => this.page.resetZoom();
    // A wheel scrolls the notebook, unless a person works with the plot.
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !this.root.contains(document.activeElement)) return;
      event.preventDefault();
      const factor = Math.exp(clamp(event.deltaY || event.deltaX, -100, 100) / 300);
      if (event.shiftKey || event.offsetX < this.left) this.page.zoomY([pane], factor);
      else this.page.zoomBy(factor, this.secsAt(event.offsetX));
    }, { passive: false });
  }

  handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const path = event.composedPath();
    if (!path.includes(this.root)) return;
    if (path[0] instanceof HTMLButtonElement && [" ", "Enter"].includes(event.key)) {
      return event.stopImmediatePropagation();
    }
    const action = this.actionOf(event.key);
    if (!action) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    action();
  }

  actionOf(key) {
    const { page } = this;
    if (key === " ") return () => page.setPaused(!page.paused);
    if (key === "+" || key === "=") return () => page.zoomBy(1 / 1.5);
    if (key === "-") return () => page.zoomBy(1.5);
    if (key === "0") return () => page.resetZoom();
    if (key === "ArrowLeft") return () => page.move(-0.2);
    if (key === "ArrowRight") return () => page.move(0.2);
    if (key === "ArrowUp") return () => page.zoomY(page.panes, 1 / 1.25);
    if (key === "ArrowDown") return () => page.zoomY(page.panes, 1.25);
    return null;
  }

  /** JupyterLab makes an output anew when it gets a still, as at a pause; the focus must not be lost with it. */
  restoreFocus() {
    const { focus } = this.page;
    if (!focus || document.activeElement !== document.body) return;
    if (focus.leftMs !== Infinity && performance.now() - focus.leftMs > 1000) return;
    const part = (focus.part && this.root.querySelector(`.${CSS.escape(focus.part)}`)) || this.root;
    requestAnimationFrame(() => part.focus({ preventScroll: true }));
  }

  // ----- words

  /** What changes at most once a second. */
  refresh() {
    this.theme = undefined; // it may have been changed
    this.draw();
    for (const { pane, canvas } of this.panes) {
      const newest = this.page.linesOf(pane).filter(({ hidden }) => !hidden).slice(0, 6).map(({ info, line, columns }) => {
        const value = columns[columns.length - 1]?.values[4 * line + LAST];
        return value === undefined || Number.isNaN(value) ? "" : `${info.label} ${valueText(value)}${info.unit ? ` ${info.unit}` : ""}`;
      });
      const names = pane.places.map((place) => this.page.topics[place].topic).join(", ");
      const text = `${names}; newest values: ${newest.filter(Boolean).join(", ") || "none"}`;
      if (canvas.getAttribute("aria-label") !== text) canvas.setAttribute("aria-label", text);
    }
  }

  showWords() {
    const { page } = this;
    const { state, reason } = this.condition();
    this.root.dataset.state = state;
    setText(this.state, state);
    const isEmpty = page.topics.every(({ columns }) => !columns.length);
    setText(this.message, isEmpty ? (reason ? `${state}: ${reason}` : state) : "");
    setText(this.reason, isEmpty ? "" : reason);
    if (this.pauseButton.dataset.paused !== String(page.paused)) {
      this.pauseButton.dataset.paused = String(page.paused);
      this.pauseButton.replaceChildren(plotIcon(page.paused ? "resume" : "pause"), page.paused ? "Resume" : "Pause");
      this.pauseButton.title = page.paused ? "Resume (space)" : "Pause (space)";
    }
    this.resetButton.hidden = !page.zoomed;
  }

  condition() {
    const { page } = this;
    const lost = page.lostStreamReason();
    if (lost) return { state: "lost", reason: lost };
    const status = page.status ?? { state: "waiting", reason: "" };
    if (page.paused && ["running", "stale"].includes(status.state)) return { state: "paused", reason: "" };
    if (!page.paused && status.state === "paused") return { state: "running", reason: "" };
    return status;
  }

  showLegends() {
    const { page } = this;
    const style = this.style();
    if (this.legendNumber !== page.infoNumber || this.legendDark !== style.dark) {
      const focused = this.root.contains(document.activeElement) ? document.activeElement?.dataset?.key : undefined;
      this.legendNumber = page.infoNumber;
      this.legendDark = style.dark;
      for (const shown of this.panes) this.fillLegend(shown, style);
      if (focused) [...this.root.querySelectorAll("button")].find(({ dataset }) => dataset.key === focused)?.focus();
    }
    for (const { facts, legend } of this.panes) {
      for (const [place, node] of facts) setText(node, this.factsOf(place));
      for (const button of legend.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", String(!page.hidden.has(button.dataset.key)));
      }
    }
  }

  fillLegend({ pane, legend, facts }, style) {
    const lines = this.page.linesOf(pane);
    facts.clear();
    const groups = pane.places.map((place) => {
      const buttons = lines.filter((line) => line.place === place).map((line) => this.legendButton(line, style));
      const name = buttons.length ? undefined : element("span", "dora-plot-name", this.page.topics[place].topic);
      facts.set(place, element("span", "dora-plot-facts"));
      return element("span", "dora-plot-topic", name, ...buttons, facts.get(place));
    });
    legend.replaceChildren(...groups);
  }

  legendButton({ info, key }, style) {
    const swatch = element("span", "dora-plot-swatch");
    swatch.style.borderTopColor = this.colourOf(info, style);
    if (info.number >= COLOURS.light.length) swatch.style.borderTopStyle = "dashed";
    const unit = info.unit ? element("span", "dora-plot-unit", info.unit) : undefined;
    const ended = info.ended ? element("span", "dora-plot-unit", "ended") : undefined;
    const button = element("button", "dora-plot-line", swatch, element("span", "dora-plot-label", info.label), unit, ended);
    button.dataset.key = key;
    button.title = "Hide or show this line";
    button.onclick = () => this.page.toggle(key);
    return button;
  }

  factsOf(place) {
    const counts = this.page.status?.topics?.[place];
    if (!counts) return "";
    const facts = [];
    if (counts.rate) facts.push(rateText(counts.rate));
    if (counts.dropped) facts.push(`${counts.dropped} dropped`);
    if (counts.unreadable) facts.push(`${counts.unreadable} not readable`);
    return facts.join(" · ");
  }

  // ----- pixels

  colourOf(info, style) {
    return lineColour(info.number, style);
  }

  /** The page's colours, looked up once a second at most. */
  style() {
    if (this.theme) return this.theme;
    const quiet = getComputedStyle(this.state).getPropertyValue("outline-color");
    const theme = plotTheme(this.root, quiet);
    if (this.root.isConnected) this.theme = theme;
    return theme;
  }

  plotWidth() {
    return this.panes[0].canvas.clientWidth - this.left - 10;
  }

  secsAt(x) {
    const [begin, end] = this.page.window();
    return begin + ((end - begin) * (x - this.left)) / this.plotWidth();
  }

  draw() {
    if (!this.panes) return; // still being made
    this.showWords();
    this.showLegends();
    const ranges = this.panes.map(({ pane }) => this.rangeOf(pane));
    this.makeRoom(ranges);
    this.panes.forEach((shown, place) => this.drawPane(shown, ranges[place]));
    this.page.noteDrawn();
    this.root.dataset.seq = String(this.page.takenSeq);
  }

  /** The vertical range: what a person has zoomed to, what the cell has fixed, or what is shown. */
  rangeOf(pane) {
    const found = this.extremes(pane);
    if (found) {
      const wanted = padded(...found);
      const { auto } = pane;
      // Not at every wobble: it grows at once, and shrinks only if much of it is empty.
      const fits = auto && found[0] >= auto[0] && found[1] <= auto[1] && halfOf(wanted) > 0.6 * halfOf(auto);
      if (!fits) pane.auto = wanted;
    }
    return pane.zoomed ?? this.model.get("y") ?? pane.auto ?? [0, 1];
  }

  extremes(pane) {
    const [begin, end] = this.page.window();
    let [low, high] = [Infinity, -Infinity];
    for (const { hidden, columns, line } of this.page.linesOf(pane)) {
      if (hidden) continue;
      for (let place = Math.max(0, placeOf(columns, begin) - 1); place < columns.length; place++) {
        const { values, secs } = columns[place];
        low = values[4 * line + MINIMUM] < low ? values[4 * line + MINIMUM] : low;
        high = values[4 * line + MAXIMUM] > high ? values[4 * line + MAXIMUM] : high;
        if (secs > end) break;
      }
    }
    return low <= high ? [low, high] : null;
  }

  /** The same margin for all panes, so that their times lie below each other. */
  makeRoom(ranges) {
    const context = this.panes[0].canvas.getContext("2d");
    context.font = PLOT_FONT;
    const widths = ranges.flatMap((range, place) => yTicks(range, this.panes[place].canvas.clientHeight).map(([, text]) => context.measureText(text).width));
    this.left = clamp(8 * Math.ceil((Math.max(0, ...widths) + 14) / 8), 40, 96);
  }

  drawPane(shown, range) {
    const { canvas, pane } = shown;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const context = freshContext(canvas);
    if (!context) return;
    const style = this.style();
    const area = { left: this.left, top: 8, width: width - this.left - 10, height: height - 8 - 20 };
    const [begin, end] = this.page.window();
    const { toX, toY } = scaleTo(area, range, begin, end);
    const zero = this.page.end === null ? end : (this.page.latest() ?? end);
    const scale = this.message.textContent ? undefined : range; // an empty plot has no scale
    drawAxes(context, style, area, { begin, end, zero, isNow: this.page.moving, range: scale, toX, toY });
    context.save();
    context.beginPath();
    context.rect(area.left, area.top, area.width, area.height);
    context.clip();
    const lines = this.page.linesOf(pane).filter(({ hidden }) => !hidden);
    this.drawUnit(context, style, area, lines); // below the lines, which it must not hide
    for (const line of lines) drawLine(context, style, line, begin, end, toX, toY);
    context.restore();
    this.drawPointer(context, style, area, shown, { lines, toX, toY, begin, end });
  }

  /** The unit beside the axis, if all lines have the same. */
  drawUnit(context, style, area, lines) {
    const units = new Set(lines.map(({ info }) => info.unit));
    const [unit] = units;
    if (units.size !== 1 || !unit) return;
    context.font = PLOT_FONT;
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillStyle = style.quiet;
    context.fillText(unit, area.left + 5, area.top + 13);
  }

  drawPointer(context, style, area, shown, { lines, toX, toY, begin, end }) {
    const pointer = this.pointer?.shown === shown ? this.pointer : null;
    const inside = pointer && pointer.x >= area.left && pointer.x <= area.left + area.width;
    shown.tip.hidden = true;
    if (!pointer) return;
    if (pointer.from !== undefined && Math.abs(pointer.x - pointer.from) > DRAG_PIXELS) {
      const [from, to] = [pointer.from, pointer.x].map((x) => clamp(x, area.left, area.left + area.width));
      context.fillStyle = style.dark ? "#ffffff26" : "#1976d226";
      context.fillRect(Math.min(from, to), area.top, Math.abs(to - from), area.height);
      return;
    }
    if (!inside) return;
    context.fillStyle = style.quiet;
    context.fillRect(Math.round(pointer.x), area.top, 1, area.height);
    const secs = begin + ((end - begin) * (pointer.x - area.left)) / area.width;
    const found = lines.flatMap((line) => this.valueAt(line, secs, pointer.x, toX)).filter(Boolean);
    if (!found.length) return;
    for (const { info, column, line } of found) {
      context.fillStyle = this.colourOf(info, style);
      context.beginPath();
      context.arc(info.step ? pointer.x : toX(column.secs), toY(column.values[4 * line + LAST]), 3, 0, 7);
      context.fill();
    }
    found.sort((one, other) => Math.abs(toY(one.last) - pointer.y) - Math.abs(toY(other.last) - pointer.y));
    const rows = found.slice(0, MAX_TIP_ROWS).sort((one, other) => one.info.number - other.info.number);
    this.showTip(shown, pointer, area, secs, rows, found.length - rows.length, style);
  }

  /** The value of a line at a time: of the nearest column, if that is near. */
  valueAt({ columns, line, info }, secs, x, toX) {
    const after = placeOf(columns, secs);
    const near = [columns[after - 1], columns[after]].filter((column) => column && !Number.isNaN(column.values[4 * line]));
    if (!near.length) return null;
    let column = near.reduce((one, other) => (Math.abs(one.secs - secs) <= Math.abs(other.secs - secs) ? one : other));
    if (info.step && columns[after - 1] === near[0]) column = near[0]; // it holds until the next
    else if (Math.abs(toX(column.secs) - x) > NEAR_PIXELS) return null;
    const [minimum, maximum, last] = [MINIMUM, MAXIMUM, LAST].map((kind) => column.values[4 * line + kind]);
    return { info, column, line, minimum, maximum, last };
  }

  showTip({ tip, stage }, pointer, area, secs, rows, numMore, style) {
    const made = rows.map(({ info, minimum, maximum }) => {
      const swatch = element("span", "dora-plot-swatch");
      swatch.style.borderTopColor = this.colourOf(info, style);
      const values = minimum === maximum ? valueText(minimum) : `${valueText(minimum)} … ${valueText(maximum)}`;
      const unit = info.unit ? ` ${info.unit}` : "";
      return element("div", "dora-plot-tip-row", swatch, element("span", "dora-plot-label", info.label), element("b", "", values + unit));
    });
    const time = element("div", "dora-plot-tip-time", clockText(secs));
    const more = numMore > 0 ? element("div", "dora-plot-tip-time", `… and ${numMore} more`) : undefined;
    tip.replaceChildren(time, ...made, ...(more ? [more] : []));
    tip.hidden = false;
    // Beside the pointer if there is room, and never outside.
    const [room, own] = [stage.clientWidth, tip.offsetWidth];
    const left = pointer.x > area.left + area.width / 2 ? pointer.x - 12 - own : pointer.x + 12;
    tip.style.left = `${clamp(left, 4, Math.max(4, room - own - 4))}px`;
  }

  appeared() {
    this.refresh();
  }

  close() {
    this.sizer.disconnect();
    window.removeEventListener("keydown", this.onKey, true);
    super.close();
  }
}

export default pageWidget((page, model, host) => new PlotOutput(page, model, host), PlotPage);
