// The page's side of ComparisonView. The protocol is described at the top of view.py.
//
// page.js and the plot's canvas.js are prepended to this file.

const CMP_MAX_KEPT = 30; // details that were seen, so that stepping back needs no kernel
const [BEFORE, AFTER, CHANGE] = [0, 1, 3]; // the numbers of their colours
const LINE_MARGIN = { top: 8, right: 10, bottom: 20 };
const CMP_ICONS = {
  first: "M3 3h1.6v10H3zM13 3v10L5.6 8z",
  previous: "M11 3v10L4 8z",
  next: "M5 3v10l7-5z",
  last: "M11.4 3H13v10h-1.6zM3 3l7.4 5L3 13z",
};

class ComparisonPage extends Page {
  constructor(model) {
    super(model);
    this.step = 0;
    this.place = null; // the output whose lines are shown
    this.details = new Map();
    this.lines = new Map();
    this.takenSeq = 0;
    this.wanted = "";
  }

  get steps() {
    return this.status?.steps ?? [];
  }

  take(message, buffers) {
    if (!(message.seq > this.takenSeq)) return;
    this.takenSeq = message.seq;
    if (message.type === "detail") {
      const urls = (message.pictures ?? []).map(({ mime }, place) => URL.createObjectURL(new Blob([bytesOf(buffers[place])], { type: mime })));
      this.details.set(message.step, { ...message, urls });
      if (this.details.size > CMP_MAX_KEPT) {
        const [oldest, { urls: old }] = this.details.entries().next().value;
        this.details.delete(oldest);
        old.forEach((url) => URL.revokeObjectURL(url));
      }
    } else if (message.type === "lines") {
      this.lines.set(message.place, unpackLines(message, buffers[0]));
    }
    this.drawn++;
    this.ack(message.seq);
    this.drawSoon();
  }

  /** Asks for what is shown and was not sent yet. */
  ask() {
    if (!this.status) return;
    const step = this.steps[this.step];
    const place = this.place ?? step?.[1] ?? 0;
    const key = `${this.step} ${place}`;
    if (this.wanted === key) return;
    this.wanted = key;
    if (step && !this.details.has(this.step)) this.send({ type: "show", step: this.step });
    const kind = this.status.outputs[place]?.kind;
    if ((kind === "numbers" || kind === "struct") && !this.lines.has(place)) this.send({ type: "lines", place });
  }

  /** @param {number} step */
  goTo(step) {
    if (!this.steps.length) return;
    this.step = clamp(step, 0, this.steps.length - 1);
    this.place = null;
    this.ask();
    this.drawSoon();
  }

  /** Shows an output, at its first difference if it has one. */
  choose(place) {
    const first = this.steps.findIndex((step) => step[1] === place);
    if (first >= 0) this.goTo(first);
    this.place = place;
    this.ask();
    this.drawSoon();
  }

  reported(count) {
    if (count) this.ask();
  }

  close() {
    for (const { urls } of this.details.values()) urls.forEach((url) => URL.revokeObjectURL(url));
    super.close();
  }
}

/** The columns of each version, as the plot draws them: before, after, difference. */
function unpackLines({ labels, columns }, buffer) {
  const data = bytesOf(buffer).slice().buffer;
  const times = new Float64Array(data, 0, columns);
  const values = new Float64Array(data, times.byteLength);
  const series = labels.length;
  const versions = [0, 1, 2].map((version) =>
    Array.from({ length: columns }, (_, at) => {
      const column = { number: at, secs: times[at], values: new Float64Array(4 * series), joined: new Uint8Array(series).fill(1) };
      for (let line = 0; line < series; line++) {
        for (let kind = 0; kind < 4; kind++) column.values[4 * line + kind] = values[((version * 4 + kind) * series + line) * columns + at];
      }
      return column;
    }),
  );
  return { labels, versions, line: 0 };
}

// ----- one output

class ComparisonOutput extends View {
  constructor(page, model, host) {
    super(page, host, "dora-frame dora-compare");
    this.images = new Map();
    this.build();
    this.listen();
  }

  build() {
    this.title = element("b", "dora-compare-title");
    this.between = element("span", "dora-compare-between");
    this.verdict = element("div", "dora-compare-verdict");
    this.verdict.setAttribute("role", "status");
    this.table = element("div", "dora-compare-table");
    this.versions = element("div", "dora-compare-versions");
    this.buttons = ["first", "previous", "next", "last"].map((name) => {
      const button = element("button", "dora-compare-button", svgIcon(CMP_ICONS[name]));
      button.title = { first: "First difference (Home)", previous: "Previous difference (←)", next: "Next difference (→)", last: "Last difference (End)" }[name];
      button.setAttribute("aria-label", button.title);
      return button;
    });
    this.position = element("span", "dora-compare-position");
    this.what = element("div", "dora-compare-what");
    this.what.setAttribute("role", "status");
    this.strip = element("canvas", "dora-compare-strip");
    this.strip.setAttribute("aria-hidden", "true");
    this.detail = element("div", "dora-compare-detail");
    this.stepper = element("div", "dora-compare-stepper", this.buttons[0], this.buttons[1], this.position, this.buttons[2], this.buttons[3]);
    this.stage = element("div", "dora-compare-stage", this.stepper, this.strip, this.what, this.detail);
    this.notes = element("div", "dora-compare-notes");
    this.reason = element("div", "dora-compare-reason");
    this.root.append(element("div", "dora-compare-head", this.title, this.between), this.verdict, this.table, this.versions, this.stage, this.notes, this.reason);
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight Home End");
  }

  listen() {
    const { page } = this;
    const [first, previous, next, last] = this.buttons;
    first.onclick = () => page.goTo(0);
    previous.onclick = () => page.goTo(page.step - 1);
    next.onclick = () => page.goTo(page.step + 1);
    last.onclick = () => page.goTo(page.steps.length - 1);
    this.strip.onclick = ({ offsetX }) => page.goTo(this.nearest((offsetX / this.strip.clientWidth) * this.duration()));
    // In the capture phase at the window, before a notebook's shortcuts.
    this.onKey = (event) => this.handleKey(event);
    window.addEventListener("keydown", this.onKey, true);
    this.sizer = new ResizeObserver(() => this.drawPictures());
    this.sizer.observe(this.root);
  }

  handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !event.composedPath().includes(this.root)) return;
    if (event.composedPath()[0] instanceof HTMLSelectElement) return;
    const { page } = this;
    const steps = { ArrowLeft: page.step - 1, ArrowRight: page.step + 1, Home: 0, End: page.steps.length - 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    page.goTo(steps[event.key]);
  }

  duration() {
    return Math.max(this.page.status?.duration ?? 0, 1e-9);
  }

  /** The difference that is nearest in time. */
  nearest(secs) {
    let best = 0;
    this.page.steps.forEach(([at], step) => {
      if (Math.abs(at - secs) < Math.abs(this.page.steps[best][0] - secs)) best = step;
    });
    return best;
  }

  // ----- words

  draw() {
    const { page } = this;
    setText(this.reason, page.lostReason());
    if (!page.status) return;
    page.ask();
    this.theme = undefined;
    if (this.shownStatus !== page.status) {
      this.shownStatus = page.status;
      this.drawSummary(page.status);
    }
    this.drawStep();
    this.drawPictures();
    this.root.dataset.seq = String(page.takenSeq);
  }

  drawSummary(status) {
    this.root.dataset.state = status.state;
    this.root.setAttribute("aria-label", `Comparison of ${status.title}`);
    setText(this.title, status.title);
    const [before, after] = status.versions;
    setText(this.between, `${before.name} → ${after.name}, on ${Math.max(before.events, after.events)} recorded inputs`);
    setText(this.verdict, status.verdict);
    this.fillTable(status.outputs);
    this.versions.replaceChildren(this.versionNode("before", before, BEFORE), this.versionNode("after", after, AFTER));
    this.stage.hidden = !status.outputs.some(({ counts }) => counts[0]);
    this.stepper.hidden = !status.steps.length;
    this.strip.hidden = !status.steps.length;
    this.notes.replaceChildren(...status.notes.map((note) => element("div", "", note)));
  }

  fillTable(outputs) {
    const names = ["output", "kind", "messages", "equal", "different", "gained", "lost", "max error"];
    const head = element("tr", "", ...names.map((name) => element("th", "", name)));
    this.rows = outputs.map(({ name, kind, counts, error }, place) => {
      const button = element("button", "dora-compare-output", name);
      button.title = "Show this output";
      button.onclick = () => this.page.choose(place);
      const cells = [kind || "-", ...counts.map(String), error].map((text, at) => {
        const cell = element("td", at === 0 ? "" : "dora-compare-number", text);
        if (at > 2 && at < 6 && text !== "0") cell.classList.add("dora-compare-unlike");
        return cell;
      });
      return element("tr", "", element("td", "", button), ...cells);
    });
    this.table.replaceChildren(element("table", "", element("thead", "", head), element("tbody", "", ...this.rows)));
  }

  versionNode(name, { p50, p95, error, failed, traceback, printed }, number) {
    const swatch = element("span", "dora-compare-swatch");
    swatch.style.borderTopColor = lineColour(number, this.style());
    if (number === BEFORE) swatch.style.borderTopStyle = "dashed";
    const parts = [element("div", "", swatch, element("b", "", ` ${name} `), `p50 ${p50}, p95 ${p95} for each input`)];
    if (error !== null) {
      parts.push(element("div", "dora-compare-error", `failed ${failed ?? "before its first input"}: ${error}`));
      if (traceback.length) {
        const lines = element("pre", "dora-compare-traceback", traceback.join("\n"));
        parts.push(element("details", "", element("summary", "", "Traceback"), lines));
      }
    }
    if (printed.length) {
      const lines = element("pre", "dora-compare-traceback", printed.join("\n"));
      parts.push(element("details", "", element("summary", "", "Printed"), lines));
    }
    return element("div", "dora-compare-version", ...parts);
  }

  /** The output that is shown. */
  shownPlace() {
    return this.page.place ?? this.page.steps[this.page.step]?.[1] ?? this.page.status.outputs.findIndex(({ counts }) => counts[0]);
  }

  drawStep() {
    const { page } = this;
    const step = page.steps[page.step];
    const place = this.shownPlace();
    this.rows.forEach((row, at) => row.classList.toggle("dora-compare-chosen", at === place));
    const more = page.status.num_steps - page.steps.length;
    setText(this.position, step ? `${page.step + 1} of ${page.steps.length}${more > 0 ? ` (${more} more)` : ""}` : "");
    const fits = step && step[1] === place;
    const detail = fits ? page.details.get(page.step) : undefined;
    const cause = detail ? ` (${detail.cause})` : "";
    setText(this.what, fits ? `${page.status.outputs[place].name} at ${step[0].toFixed(2)} s${cause}: ${step[3]}` : "");
    const kind = page.status.outputs[place]?.kind ?? "";
    const key = `${page.step} ${place} ${detail ? "" : "waiting"} ${page.lines.has(place)} ${kind}`;
    if (this.shownKey === key) return;
    this.shownKey = key;
    this.fillDetail(kind, place, detail);
  }

  fillDetail(kind, place, detail) {
    this.canvases = [];
    const parts = [];
    const lines = this.page.lines.get(place);
    if (lines) parts.push(...this.linePanes(lines));
    if (detail?.problem) parts.push(element("div", "dora-compare-error", detail.problem));
    if (detail && kind === "boxes") parts.push(this.boxesPane(detail));
    else if (detail && kind === "picture") parts.push(this.picturesPane(detail));
    if (detail && (!lines || kind === "struct")) {
      for (const side of ["before", "after"]) {
        if (detail[side]) parts.push(element("div", "dora-compare-text", element("b", "", `${side}: `), detail[side]));
      }
    }
    this.detail.replaceChildren(...parts);
  }

  linePanes(lines) {
    const chooser = element("select", "dora-compare-series", ...lines.labels.map((label) => element("option", "", label)));
    chooser.selectedIndex = lines.line;
    chooser.setAttribute("aria-label", "Which number");
    chooser.onchange = () => {
      lines.line = chooser.selectedIndex;
      this.drawPictures();
    };
    chooser.hidden = lines.labels.length < 2;
    const pane = (versions, name, height) => {
      const canvas = element("canvas", "dora-compare-lines");
      canvas.style.height = `${height}px`;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", name);
      canvas.onclick = ({ offsetX }) => {
        const left = 56;
        this.page.goTo(this.nearest(((offsetX - left) / (canvas.clientWidth - left - LINE_MARGIN.right)) * this.duration()));
      };
      this.canvases.push({ canvas, draw: () => this.drawLines(canvas, lines, versions) });
      return canvas;
    };
    const label = (text) => element("div", "dora-compare-name", text);
    const both = pane([[1, AFTER], [0, BEFORE]], "before and after", 150);
    const change = pane([[2, CHANGE]], "difference", 90);
    return [chooser, label("before (dashed) and after"), both, label("after less before"), change];
  }

  boxesPane(detail) {
    const canvas = element("canvas", "dora-compare-boxes");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", detail.text);
    const rows = [["dashed", "before", BEFORE], ["solid", "after", AFTER]].map(([line, name, number]) => {
      const swatch = element("span", "dora-compare-swatch");
      swatch.style.borderTopColor = boxColour(number);
      swatch.style.borderTopStyle = line;
      return element("span", "dora-compare-legend", swatch, ` ${name}`);
    });
    const source = detail.pictures?.[0]?.name;
    const legend = element("div", "dora-compare-name", ...rows, " boxes that are the same are thin", source ? `; on ${source}` : "; no picture was recorded with them");
    this.canvases.push({ canvas, draw: () => this.drawBoxes(canvas, detail) });
    if (detail.urls.length) this.load(detail.urls[0]);
    return element("div", "", canvas, legend);
  }

  picturesPane(detail) {
    const shown = (detail.pictures ?? []).map(({ name }, place) => {
      const image = element("img", "dora-compare-picture");
      image.src = detail.urls[place];
      image.alt = name;
      return element("figure", "", image, element("figcaption", "", name));
    });
    return element("div", "dora-compare-pictures", ...shown);
  }

  // ----- pixels

  style() {
    if (this.theme) return this.theme;
    const theme = plotTheme(this.root, getComputedStyle(this.notes).color);
    if (this.root.isConnected) this.theme = theme;
    return theme;
  }

  load(url) {
    if (this.images.has(url)) return;
    const image = new Image();
    image.onload = () => this.drawPictures();
    image.src = url;
    this.images.clear(); // the one before is not needed any longer
    this.images.set(url, image);
  }

  drawPictures() {
    if (!this.page.status || !this.canvases) return;
    this.theme = undefined;
    for (const { draw } of this.canvases) draw();
    this.drawStrip();
  }

  drawStrip() {
    const context = freshContext(this.strip);
    if (!context) return;
    const { page } = this;
    const style = this.style();
    const [width, height] = [this.strip.clientWidth, this.strip.clientHeight];
    const toX = (secs) => (secs / this.duration()) * (width - 3) + 1;
    context.fillStyle = style.grid;
    context.fillRect(0, height / 2 - 1, width, 2);
    context.fillStyle = lineColour(CHANGE, style);
    for (const [secs] of page.steps) context.fillRect(toX(secs), 3, 1.5, height - 6);
    const step = page.steps[page.step];
    if (!step) return;
    context.fillStyle = style.text;
    context.fillRect(toX(step[0]) - 0.5, 0, 2.5, height);
  }

  drawLines(canvas, { versions, line }, shown) {
    const context = freshContext(canvas);
    if (!context) return;
    const style = this.style();
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const area = { left: 56, top: LINE_MARGIN.top, width: width - 56 - LINE_MARGIN.right, height: height - LINE_MARGIN.top - LINE_MARGIN.bottom };
    let [low, high] = [Infinity, -Infinity];
    for (const [version] of shown) {
      for (const { values } of versions[version]) {
        const [least, most] = [values[4 * line + MINIMUM], values[4 * line + MAXIMUM]];
        if (Number.isFinite(least) && least < low) low = least;
        if (Number.isFinite(most) && most > high) high = most;
      }
    }
    const range = low <= high ? padded(low, high) : [0, 1];
    const [begin, end] = [0, this.duration()];
    const { toX, toY } = scaleTo(area, range, begin, end);
    drawAxes(context, style, area, { begin, end, zero: 0, isNow: false, range, toX, toY });
    context.save();
    context.beginPath();
    context.rect(area.left, area.top, area.width, area.height);
    context.clip();
    for (const [version, number] of shown) {
      // The line before is dashed and on top: both are seen where they are equal.
      const dash = number === BEFORE ? COLOURS.light.length : 0;
      const info = { number: number + dash, step: false, ended: true };
      drawLine(context, style, { columns: versions[version], line, info }, begin, end, toX, toY);
    }
    const step = this.page.steps[this.page.step];
    if (step) {
      context.fillStyle = style.quiet;
      context.fillRect(Math.round(toX(step[0])), area.top, 1, area.height);
    }
    context.restore();
  }

  drawBoxes(canvas, detail) {
    const image = this.images.get(detail.urls[0]);
    const loaded = image?.complete && image.naturalWidth ? image : null;
    const boxes = [...detail.before_boxes, ...detail.after_boxes];
    if (detail.urls.length && !loaded) return;
    const size = loaded
      ? [loaded.naturalWidth, loaded.naturalHeight]
      : [1, 0].map((_, axis) => Math.max(16, ...boxes.map((box) => box[2 + axis] * 1.05)));
    const width = Math.min(canvas.parentElement.clientWidth, 720);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${Math.round((width * size[1]) / size[0])}px`;
    const context = freshContext(canvas);
    if (!context) return;
    if (loaded) context.drawImage(loaded, 0, 0, canvas.clientWidth, canvas.clientHeight);
    const scale = canvas.clientWidth / size[0];
    this.drawBoxRows(context, detail.before_boxes, scale, BEFORE);
    this.drawBoxRows(context, detail.after_boxes, scale, AFTER);
  }

  drawBoxRows(context, rows, scale, number) {
    context.font = PLOT_FONT;
    context.textBaseline = "bottom";
    context.textAlign = "left";
    for (const [x1, y1, x2, y2, label, state] of rows) {
      const [x, y, width, height] = [x1 * scale, y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale];
      const isSame = state === "same";
      context.setLineDash(number === BEFORE ? [6, 4] : []);
      for (const [colour, extra] of [["#000c", 2], [boxColour(number), 0]]) {
        context.strokeStyle = colour;
        context.lineWidth = (isSame ? 1 : 2.5) + extra;
        context.strokeRect(x, y, width, height);
      }
      context.setLineDash([]);
      if (isSame) continue;
      const word = state === "alone" ? (number === BEFORE ? "lost" : "gained") : "moved";
      const text = `${label} ${word}`;
      const top = number === BEFORE ? y + height + 15 : y - 1; // not on each other where a box has moved a little
      if (state === "moved" && number === BEFORE) continue;
      context.fillStyle = "#000c";
      context.fillRect(x, top - 14, context.measureText(text).width + 8, 14);
      context.fillStyle = boxColour(number);
      context.fillText(text, x + 4, top - 1);
    }
  }

  close() {
    this.sizer.disconnect();
    window.removeEventListener("keydown", this.onKey, true);
    super.close();
  }
}

/** On any picture: bright, with a dark edge. */
const boxColour = (number) => lineColour(number, { dark: true });

export default pageWidget((page, model, host) => new ComparisonOutput(page, model, host), ComparisonPage);
