// @ts-check
// What the controls of a page share; dora_nb/widgets/controls/base.py has the messages. page.js is prepended
// to this file, and the code of each family follows it.

const PROBE_MS = 500;
const MOST_PROBE_MS = 30_000;

/** A value as a person reads it. */
export function shownValue(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map((each) => Number(each).toFixed(2)).join(", ");
  return typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value);
}

/** Sends what a person does, and knows what the kernel has handled of it. */
class ControlPage extends Page {
  constructor(model) {
    super(model);
    this.lastSaid = 0;
    this.probeMs = PROBE_MS;
  }
  /** @param {string} type @param {object} [more] */
  say(type, more = {}) {
    this.send({ type, ...more });
    this.lastSaid = this.numSent;
  }
  /** Whether the kernel's status is older than what was done here. */
  get pending() {
    return (this.status?.answered?.[this.client] ?? 0) < this.lastSaid;
  }
  /** Whether messages wait while a cell runs: the front end, or the kernel, lacks subshells. */
  get late() {
    return Boolean(this.status?.late?.includes(this.client));
  }
  receive(message, buffers) {
    super.receive(message, buffers);
    // The first messages of a page may come before its subshell is there, so it asks again.
    if (!this.late || this.probeTimer !== undefined) return;
    this.probeTimer = setTimeout(() => {
      this.probeTimer = undefined;
      this.probeMs = Math.min(2 * this.probeMs, MOST_PROBE_MS);
      if (!this.pending) this.say("probe");
    }, this.probeMs);
  }
  close() {
    clearTimeout(this.probeTimer);
    super.close();
  }
}

/** One output of a control: a row of label, control and value, and below it whether it is heard. */
class ControlView extends View {
  /** @param {ControlPage} page @param {HTMLElement} host @param {string} kind */
  constructor(page, model, host, kind) {
    super(page, host, `dora-control dora-${kind}`);
    this.settings = model.get("settings");
    this.topic = model.get("topic");
    this.engaged = false; // a person is just moving it: the kernel's value must not
    this.id = `dora-${Math.random().toString(36).slice(2)}`;
    this.label = element("label", "dora-control-label", this.topic);
    this.label.id = `${this.id}-label`;
    this.label.title = this.topic;
    this.row = element("div", "dora-control-row", this.label);
    this.value = element("span", "dora-control-value");
    this.heard = element("span", "dora-control-text");
    this.heard.setAttribute("role", "status");
    const dot = element("span", "dora-control-dot");
    dot.setAttribute("aria-hidden", "true");
    this.foot = element("div", "dora-control-heard", dot, this.heard);
    this.foot.id = `${this.id}-heard`;
    this.row.append(this.foot);
    this.root.append(this.row);
    // In the capture phase at the window, before a notebook's shortcuts: in JupyterLab "b" inserts a cell, and
    // the arrows go to another one.
    this.onKey = (event) => this.handleKey(event);
    window.addEventListener("keydown", this.onKey, true);
    window.addEventListener("keyup", this.onKey, true);
  }

  // ----- for a subclass

  /** Shows the kernel's value. @param {any} value */
  show(value) {}

  /** @param {boolean} enabled */
  enable(enabled) {
    for (const each of this.root.querySelectorAll("input, select, button")) {
      /** @type {any} */ (each).disabled = !enabled;
    }
  }

  /** A key of this view's. @param {KeyboardEvent} event */
  pressed(event) {}

  /** What is added where messages wait while a cell runs. */
  lateText() {
    return this.page.late ? "; it waits while a cell runs" : "";
  }

  // -----

  /** Puts the control into the row and ties the label to it. @param {HTMLElement} control */
  place(control) {
    this.control = control;
    control.id = this.id;
    control.setAttribute("aria-describedby", this.foot.id);
    control.classList.add("dora-control-input");
    this.label.setAttribute("for", this.id);
    this.foot.before(control, this.value);
  }

  handleKey(event) {
    const ours = event.composedPath().includes(this.root);
    if (!ours || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Tab" || event.key === "Escape") return;
    event.stopPropagation();
    this.pressed(event);
  }

  draw() {
    const { status } = this.page;
    const lost = this.page.lostReason();
    this.root.dataset.state = lost ? "lost" : status?.error ? "refused" : (status?.state ?? "waiting");
    const reason = lost || status?.error || status?.text || "waiting for the kernel";
    setText(this.heard, reason + (lost ? "" : this.lateText()));
    this.enable(!lost && status?.state !== "replaced");
    if (status && !this.engaged && !this.page.pending) this.show(status.value);
  }

  close() {
    window.removeEventListener("keydown", this.onKey, true);
    window.removeEventListener("keyup", this.onKey, true);
    super.close();
  }
}
