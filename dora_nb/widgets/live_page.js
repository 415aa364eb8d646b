// @ts-check
// The page's side of dora_nb/widgets/_live.py, prepended to each widget that uses it.

// Until a front end has made a subshell, what a page says waits behind the cells that were run before.
const GREET_AGAIN_MS = 500;

/** @param {string} tag @param {string} kind @param {string} [text] */
export function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

/**
 * What one model has heard from the kernel, and what its views have told it. There is one for each
 * model; `views` are its outputs on the page.
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
    this.told = -1;
    this.seen = 0;
    this.numSent = 0;
    this.hear = (message) => this.receive(message);
    this.lose = () => this.disconnect();
    model.on("msg:custom", this.hear);
    // Not of anywidget's own: the widget manager triggers it when the kernel is gone or restarts.
    model.on("comm_live_update", this.lose);
    this.greet(GREET_AGAIN_MS);
  }
  /** Says hello, and again, ever more rarely, until it is answered. @param {number} patienceMs */
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
    if (message.greeting) this.told = -1;
    this.report();
  }
  disconnect() {
    clearTimeout(this.greetTimer);
    if (!this.connected) return;
    this.connected = false;
    for (const view of this.views) view.draw();
  }
  /** Tells how many views are on the screen, if that has changed, and which failure they show. */
  report() {
    const onScreen = [...this.views].filter((view) => view.onScreen).length;
    const count = document.visibilityState === "hidden" ? 0 : onScreen;
    if (count !== this.told) {
      this.told = count;
      this.send({ type: "visible", count });
    }
    const failure = this.status?.failure;
    if (count && failure && failure.number !== this.seen) {
      this.seen = failure.number;
      this.send({ type: "seen", failure: failure.number });
    }
  }
  close() {
    clearTimeout(this.greetTimer);
    this.model.off("msg:custom", this.hear);
    this.model.off("comm_live_update", this.lose);
  }
}

/** One output. A widget's own view fills `root`, and draws `page.status` in `draw`. */
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
 * anywidget's entry: a page for each model, a view for each output.
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
