// @ts-check
// The line below an operator's cell. page.js is prepended to this file.

/** @typedef {{number: number, message: string, traceback: string[]}} Failure */
/**
 * @typedef {{state: string, text: string, generation: number, rate: number | null, dropped: number,
 *   undeclared: number, missed: number, amber: boolean, warnings: string[],
 *   changed: string, printed: string, failure: Failure | null}} Status
 */

const ANSI = /\x1b\[[0-9;]*[A-Za-z]/g;

/** @param {number} count @param {string} one @param {string} many */
const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;

/** The numbers to show; those that are zero are left out. @param {Status} status */
export function factsOf(status) {
  const facts = [];
  if (status.generation > 1) facts.push(`generation ${status.generation}`);
  if (status.rate !== null) facts.push(`${status.rate} events/s`);
  if (status.busy) facts.push(`busy with one event for ${status.busy} s`);
  if (status.dropped) facts.push(`${status.dropped} dropped`);
  if (status.missed) facts.push(counted(status.missed, "missed tick", "missed ticks"));
  if (status.undeclared) {
    facts.push(`${counted(status.undeclared, "message", "messages")} to undeclared outputs`);
  }
  if (status.changed) facts.push(`${status.changed}: run the cell again`);
  return facts;
}

/**
 * @param {string} note the cell's sentence when it ran
 * @param {Status} status
 * @returns {string[]} the part of it that the line does not show anyway; none of an older generation
 */
export function noteworthy(note, status) {
  const restarted = note.match(/^generation (\d+), (.*)$/);
  if (restarted) return Number(restarted[1]) === status.generation ? [restarted[2]] : [];
  return ["declared", "started", status.text].includes(note) ? [] : [note];
}

/** Reports which failure its views show. */
class LinePage extends Page {
  constructor(model) {
    super(model);
    this.reportedFailure = 0;
  }
  reported(count) {
    const failure = this.status?.failure;
    if (!count || !failure || failure.number === this.reportedFailure) return;
    this.reportedFailure = failure.number;
    this.send({ type: "seen", failure: failure.number });
  }
}

class LineView extends View {
  /** @param {LinePage} page @param {HTMLElement} host */
  constructor(page, model, host) {
    super(page, host, "dora-line");
    this.model = model;
    this.drawnFailure = 0;
    this.drawnWarnings = "";
    const row = element("div", "dora-line-row");
    const dot = element("span", "dora-line-dot");
    dot.setAttribute("aria-hidden", "true");
    this.state = element("span", "dora-line-state");
    this.state.setAttribute("role", "status");
    this.facts = element("span", "dora-line-facts");
    // Not a status for screen readers, which would read every line that an operator prints.
    this.printed = element("span", "dora-line-printed");
    const name = element("span", "dora-line-name", model.get("name"));
    row.append(dot, name, this.state, this.facts, this.printed);
    this.root.append(row);
  }
  /** The cell's sentence without the name, which the line shows already. */
  note() {
    const sentence = this.model.get("sentence");
    const name = this.model.get("name");
    return sentence.startsWith(`${name}: `) ? sentence.slice(name.length + 2) : sentence;
  }
  draw() {
    const { status, connected } = this.page;
    const note = this.note();
    const text = status ? status.text : note;
    const facts = status ? factsOf(status) : [];
    if (status) facts.push(...noteworthy(note, status));
    if (!connected) facts.push("the kernel has ended");
    this.root.dataset.state = status ? (status.amber ? "amber" : status.state) : "declared";
    this.root.classList.toggle("dora-line-gone", !connected);
    // A screen reader reads the state whenever it is written, so it is written only when it changes.
    if (this.state.textContent !== text) this.state.textContent = text;
    this.facts.textContent = facts.join(" · ");
    this.printed.textContent = (status?.printed ?? "").replace(ANSI, "");
    this.printed.title = this.printed.textContent; // for what does not fit
    this.drawWarnings(status?.warnings ?? []);
    this.drawFailure(status?.failure ?? null);
  }
  /** Shows what goes wrong while the node runs on, a line each. @param {string[]} warnings */
  drawWarnings(warnings) {
    // Only when they change: a screen reader reads what is written into a box with this role.
    const texts = warnings.join("\n").replace(ANSI, "");
    if (texts === this.drawnWarnings) return;
    this.drawnWarnings = texts;
    this.root.querySelector(".dora-line-warnings")?.remove();
    if (!texts) return;
    const box = element("div", "dora-line-warnings", texts);
    box.setAttribute("role", "status");
    this.root.querySelector(".dora-line-row").after(box);
  }
  /** Shows a failure. One that is shown already stays open or closed. @param {Failure | null} failure */
  drawFailure(failure) {
    if ((failure?.number ?? 0) === this.drawnFailure) return;
    this.drawnFailure = failure?.number ?? 0;
    this.root.querySelector(".dora-line-failure")?.remove();
    if (!failure) return;
    const lines = failure.traceback.join("\n").replace(ANSI, "").trimEnd();
    const box = element(lines ? "details" : "div", "dora-line-failure");
    if (lines) {
      box.setAttribute("open", "");
      const traceback = element("pre", "dora-line-traceback", lines);
      traceback.tabIndex = 0; // so that the keyboard can scroll it
      box.append(element("summary", "dora-line-message", failure.message), traceback);
    } else {
      box.append(element("div", "dora-line-message", failure.message));
    }
    this.root.append(box);
  }
}

export default pageWidget((page, model, host) => new LineView(page, model, host), LinePage);
