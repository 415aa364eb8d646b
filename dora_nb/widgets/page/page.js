// @ts-check
// The page's side of dora_nb/widgets/page/widget.py, which has the protocol. It is prepended to the code
// of each widget.
//
// A Page belongs to a model: it talks to the kernel. A View belongs to an output: it draws. Data from the
// dataflow is only drawn on a canvas or set as textContent, so it cannot become markup.

const PROTOCOL_VERSION = 1;
const ACK_MS = 250;
// Until a front end has made a subshell, a page's messages wait behind the cells that were run before.
const GREET_AGAIN_MS = 500;
// A model without an output has no view that would report that it is not visible.
const REPORT_MS = 2000;
const SILENCE_MS = 6000; // the kernel sends the status of a stream at least every 2 s

/** @param {string} tag @param {string} kind @param {(Node | string | undefined)[]} children */
export function element(tag, kind, ...children) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  for (const child of children) if (child !== undefined) made.append(child);
  return made;
}

/** An icon of 16 x 16 pixels in the colour of the text. @param {string} outline */
export function svgIcon(outline) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", outline);
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}

/** Leaves text alone that did not change: a screen reader would read it again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A front end passes a DataView, an ArrayBuffer, or a view into a larger buffer. @returns {Uint8Array} */
export function bytesOf(buffer) {
  if (buffer instanceof ArrayBuffer) return new Uint8Array(buffer);
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/**
 * The element of the cell that ran as In[execution]; null where the page has none. A widget has no interface
 * for this, so it uses what JupyterLab and Notebook have on the page: the cell's prompt.
 * @param {Element} root @param {number} execution
 */
export function cellOf(root, execution) {
  const notebook = root.closest(".jp-Notebook") ?? document;
  for (const prompt of notebook.querySelectorAll(".jp-CodeCell .jp-InputPrompt")) {
    if (prompt.textContent.trim() === `[${execution}]:`) return prompt.closest(".jp-CodeCell");
  }
  return null;
}

/**
 * Goes to a line of a cell, by the editor's object on its element.
 * @returns {boolean} whether the cell is on the page
 */
export function goToCell(root, execution, lineNumber) {
  const cell = cellOf(root, execution);
  if (cell === null) return false;
  cell.scrollIntoView({ block: "nearest" });
  const content = cell.querySelector(".cm-content");
  const editor = content?.cmView?.view ?? content?.cmTile?.view;
  if (editor?.state?.doc && lineNumber <= editor.state.doc.lines) {
    const line = editor.state.doc.line(lineNumber);
    editor.dispatch({ selection: { anchor: line.from, head: line.to }, scrollIntoView: true });
    editor.focus();
  }
  return true;
}

/**
 * The page's side of one model: receives the kernel's messages, and reports what is visible. `views`
 * are the outputs of the model on the page. A widget with messages of its own has a subclass.
 */
export class Page {
  constructor(model) {
    this.model = model;
    this.client = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
    /** @type {Set<View>} */
    this.views = new Set();
    /** @type {any} the kernel's last status */
    this.status = null;
    this.connected = true; // as far as the front end knows
    this.closed = false;
    this.otherVersion = false;
    this.lastMessageMs = performance.now();
    this.reportedCount = -1;
    this.numSent = 0;
    this.ackSeq = 0;
    this.drawn = this.dropped = this.broken = 0; // messages of a stream
    this.onMessage = (message, buffers) => this.receive(message, buffers);
    this.onLost = () => this.disconnect();
    this.onVisibility = () => this.report();
    this.onLeave = () => this.leave();
    model.on("msg:custom", this.onMessage);
    // An event of the widget manager, not of anywidget: the kernel has ended or restarts.
    model.on("comm_live_update", this.onLost);
    document.addEventListener("visibilitychange", this.onVisibility);
    window.addEventListener("pagehide", this.onLeave);
    this.greet(GREET_AGAIN_MS);
    this.reportTimer = setTimeout(() => this.report(), REPORT_MS);
  }

  // ----- for a subclass

  /** Takes a message that is not a status. @param {any} message @param {any[]} buffers */
  take(message, buffers) {}

  /** Called after each report of what is visible. @param {number} count */
  reported(count) {}

  // ----- for the widget

  /** Sends a message of the widget's own. @param {object} message @param {ArrayBuffer[]} [buffers] */
  send(message, buffers) {
    if (this.closed) return;
    const named = { client: this.client, n: ++this.numSent, ...message };
    try {
      if (buffers) this.model.send(named, undefined, buffers);
      else this.model.send(named);
    } catch {
      this.disconnect(); // the comm is closed
    }
  }

  /**
   * Acknowledges the messages of a stream up to `seq`: rarely, with totals, since each message to the
   * kernel costs a round of busy and idle. Count `drawn`, `dropped` and `broken` before.
   */
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

  /** Draws the visible views once, in step with the screen, however often it is called before. */
  drawSoon() {
    if (this.drawFrame !== undefined) return;
    this.drawFrame = requestAnimationFrame(() => {
      this.drawFrame = undefined;
      for (const view of this.views) if (view.visible) view.draw();
    });
  }

  /** Draws all views at once. */
  draw() {
    for (const view of this.views) view.draw();
  }

  visibleCount() {
    return [...this.views].filter((view) => view.visible).length;
  }

  /** Why what is shown may be out of date; "" if the kernel is there. */
  lostReason() {
    if (this.otherVersion) return "this output is from another version of dora_nb; run the cell again";
    return this.connected ? "" : "the kernel has ended or was restarted; run the cell again";
  }

  /** The same for a stream, whose kernel is also lost if it is silent. */
  lostStreamReason() {
    const silentMs = performance.now() - this.lastMessageMs;
    const silent = this.visibleCount() > 0 && silentMs > SILENCE_MS;
    const reason = `no message from the kernel for ${Math.round(silentMs / 1000)} s`;
    return this.lostReason() || (silent ? reason : "");
  }

  // -----

  /** Says hello until the kernel answers, at intervals that double. @param {number} patienceMs */
  greet(patienceMs) {
    this.greetTimer = setTimeout(() => this.greet(2 * patienceMs), patienceMs);
    this.send({ type: "hello", v: PROTOCOL_VERSION });
  }

  receive(message, buffers) {
    this.lastMessageMs = performance.now();
    this.otherVersion = (message?.v ?? PROTOCOL_VERSION) !== PROTOCOL_VERSION;
    if (this.otherVersion) return this.draw();
    this.connected = true;
    if (message?.type !== "status") return this.take(message, buffers);
    this.status = message;
    this.draw();
    if (message.greeting) {
      clearTimeout(this.greetTimer);
      this.reportedCount = -1; // the kernel has forgotten it
    }
    this.report();
  }

  disconnect() {
    clearTimeout(this.greetTimer);
    if (!this.connected) return;
    this.connected = false;
    this.draw();
  }

  /** Reports how many views are on the screen, if that has changed. */
  report() {
    if (this.closed) return;
    for (const view of this.views) view.noteVisible();
    const count = this.visibleCount();
    if (count !== this.reportedCount) {
      // While it was hidden the kernel sent nothing, which does not count as silence.
      if (count && this.reportedCount <= 0) this.lastMessageMs = performance.now();
      this.reportedCount = count;
      this.send({ type: "visible", count });
    }
    this.reported(count);
  }

  /** The browser leaves the page. */
  leave() {
    for (const view of this.views) view.noteVisible(false);
    this.reportedCount = 0;
    this.send({ type: "visible", count: 0 });
  }

  close() {
    for (const view of [...this.views]) view.close();
    if (this.reportedCount !== 0) this.leave();
    this.closed = true;
    clearTimeout(this.greetTimer);
    clearTimeout(this.reportTimer);
    clearTimeout(this.ackTimer);
    cancelAnimationFrame(this.drawFrame);
    this.model.off("msg:custom", this.onMessage);
    this.model.off("comm_live_update", this.onLost);
    document.removeEventListener("visibilitychange", this.onVisibility);
    window.removeEventListener("pagehide", this.onLeave);
  }
}

/** One output. Each widget has a subclass that fills `root`, and shows `page.status` in `draw`. */
export class View {
  /** @param {Page} page @param {HTMLElement} host @param {string} kind */
  constructor(page, host, kind) {
    this.page = page;
    this.onScreen = false;
    this.wasVisible = false;
    this.root = element("div", `dora-widget ${kind}`); // the theme of page.css
    host.append(this.root);
    this.watch(this.root);
    page.views.add(this);
  }

  // ----- for a subclass

  /** Shows the page's state. Called when it has changed, and before the view is on the screen. */
  draw() {}

  /** Called when the view came onto the screen or left it, whether or not the tab is hidden. */
  moved() {}

  /** Called when the view comes onto the screen. */
  appeared() {}

  /** Called when it can no longer be seen or touched: scrolled away, tab hidden, page left, view closed. */
  disappeared() {}

  // -----

  /** Whether a person may see it. */
  get visible() {
    return this.onScreen && !document.hidden;
  }

  /** Reports whether this part of the view is on the screen, in place of `root`. @param {Element} part */
  watch(part) {
    this.observer?.disconnect();
    this.observer = new IntersectionObserver((entries) => {
      this.onScreen = entries[entries.length - 1].isIntersecting;
      this.moved();
      this.page.report();
    });
    this.observer.observe(part);
  }

  noteVisible(visible = this.visible) {
    if (visible === this.wasVisible) return;
    this.wasVisible = visible;
    if (visible) this.appeared();
    else this.disappeared();
  }

  close() {
    this.noteVisible(false);
    this.observer.disconnect();
    this.page.views.delete(this);
    this.page.report();
    this.root.remove();
  }
}

/**
 * The entry point for anywidget: makes a page for each model, and a view for each output.
 * @param {(page: any, model: any, host: HTMLElement) => View} makeView
 * @param {typeof Page} PageClass
 */
export const pageWidget = (makeView, PageClass = Page) => () => {
  /** @type {Page} */
  let page;
  return {
    initialize({ model }) {
      page = new PageClass(model);
      return () => page.close();
    },
    render({ model, el }) {
      const view = makeView(page, model, el);
      view.draw();
      return () => view.close();
    },
  };
};
