// @ts-check
// The page's side of dora_nb/widgets/_live.py, prepended to each widget that uses it.

// Until a front end has made a subshell, a page's messages wait behind the cells that were run before.
const GREET_AGAIN_MS = 500;

/** @param {string} tag @param {string} kind @param {string} [text] */
export function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

/**
 * The page's side of one model: receives the kernel's messages, and reports what is visible. `views`
 * are the outputs of the model on the page.
 */
export class LivePage {
  constructor(model) {
    this.model = model;
    this.client = Math.random().toString(36).slice(2);
    /** @type {Set<LiveView>} */
    this.views = new Set();
    /** @type {any} the kernel's last message */
    this.status = null;
    this.connected = true;
    this.reportedCount = -1;
    this.reportedFailure = 0;
    this.numSent = 0;
    this.onMessage = (message) => this.receive(message);
    this.onLost = () => this.disconnect();
    model.on("msg:custom", this.onMessage);
    // An event of the widget manager, not of anywidget: the kernel has ended or restarts.
    model.on("comm_live_update", this.onLost);
    this.greet(GREET_AGAIN_MS);
  }
  /** Says hello until the kernel answers, at intervals that double. @param {number} patienceMs */
  greet(patienceMs) {
    this.greetTimer = setTimeout(() => this.greet(2 * patienceMs), patienceMs);
    this.send({ type: "hello" });
  }
  /** @param {object} message */
  send(message) {
    try {
      this.model.send({ client: this.client, n: ++this.numSent, ...message });
    } catch {
      this.disconnect(); // the comm is closed
    }
  }
  receive(message) {
    if (message?.type !== "status") return;
    clearTimeout(this.greetTimer);
    this.connected = true;
    this.status = message;
    for (const view of this.views) view.draw();
    if (message.greeting) this.reportedCount = -1; // the kernel has forgotten it
    this.report();
  }
  disconnect() {
    clearTimeout(this.greetTimer);
    if (!this.connected) return;
    this.connected = false;
    for (const view of this.views) view.draw();
  }
  /** Reports how many views are on the screen, if that has changed, and which failure they show. */
  report() {
    const onScreen = [...this.views].filter((view) => view.onScreen).length;
    const count = document.visibilityState === "hidden" ? 0 : onScreen;
    if (count !== this.reportedCount) {
      this.reportedCount = count;
      this.send({ type: "visible", count });
    }
    const failure = this.status?.failure;
    if (count && failure && failure.number !== this.reportedFailure) {
      this.reportedFailure = failure.number;
      this.send({ type: "seen", failure: failure.number });
    }
  }
  close() {
    clearTimeout(this.greetTimer);
    this.model.off("msg:custom", this.onMessage);
    this.model.off("comm_live_update", this.onLost);
  }
}

/** One output. Each widget has a subclass that fills `root`, and shows `page.status` in `draw`. */
export class LiveView {
  /** @param {LivePage} page @param {HTMLElement} host @param {string} kind */
  constructor(page, host, kind) {
    this.page = page;
    this.onScreen = false;
    this.root = element("div", kind);
    host.append(this.root);
    this.observer = new IntersectionObserver((entries) => {
      this.onScreen = entries[entries.length - 1].isIntersecting;
      page.report();
    });
    this.observer.observe(this.root);
    this.onVisibility = () => page.report();
    document.addEventListener("visibilitychange", this.onVisibility);
    page.views.add(this);
  }
  draw() {}
  close() {
    this.observer.disconnect();
    document.removeEventListener("visibilitychange", this.onVisibility);
    this.page.views.delete(this);
    this.page.report();
    this.root.remove();
  }
}

/**
 * The entry point for anywidget: makes a page for each model, and a view for each output.
 * @param {(page: LivePage, model: any, host: HTMLElement) => LiveView} makeView
 */
export const liveWidget = (makeView) => () => {
  /** @type {LivePage} */
  let page;
  return {
    initialize({ model }) {
      page = new LivePage(model);
      return () => page.close();
    },
    render({ model, el }) {
      const view = makeView(page, model, el);
      view.draw();
      return () => view.close();
    },
  };
};
