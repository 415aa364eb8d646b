// @ts-check
// The live view of the log; the protocol is in view.py. page.js is prepended to this file.

const LEVELS = ["trace", "debug", "info", "warn", "error"];
const PLACE = /Cell In\[(\d+)\], line (\d+)/g;
const SEARCH_MS = 150;
const NOTE_MS = 6000;
const READ_ALOUD_LINES = 5; // a screen reader cannot follow more at once

/** @typedef {{number: number, node: string, level: string, stream: string, millis: number, text: string}} Entry */

/** @param {number} count @param {string} one @param {string} many */
const numbered = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** @param {number} millis @returns {string} the time of day, as in the saved notebook, and its millis */
const timeOfDay = (millis) => {
  const at = new Date(millis);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
};

/** Keeps the lines of all its views. */
class LogPage extends Page {
  constructor(model) {
    super(model);
    this.most = model.get("lines");
    this.filter = { node: model.get("node"), level: model.get("level") };
    this.chosen = false; // whether the kernel does not know this filter yet
    /** @type {Entry[]} */
    this.entries = [];
    this.lastNumber = 0;
    this.resets = 0;
  }
  receive(message, buffers) {
    if (message?.type === "status" && message.level) {
      const { node, level } = message;
      if (node === this.filter.node && level === this.filter.level) this.chosen = false;
      if (!this.chosen) this.filter = { node, level };
    }
    super.receive(message, buffers);
  }
  take(message) {
    if (message.type !== "lines") return;
    if (message.reset) {
      this.entries = [];
      this.lastNumber = 0;
      this.resets++;
    }
    for (const [number, node, level, stream, millis, text] of message.entries) {
      if (number <= this.lastNumber) continue;
      this.lastNumber = number;
      this.entries.push({ number, node, level, stream, millis, text });
    }
    this.entries.splice(0, this.entries.length - this.most);
    this.drawSoon();
  }
  choose(filter) {
    this.filter = filter;
    this.chosen = true;
    this.send({ type: "filter", ...filter });
    this.draw();
  }
  /** Whether the chosen filter shows it: at once, though the kernel's answer may take a moment. */
  passes(entry) {
    const { node, level } = this.filter;
    return (!node || node === entry.node) && LEVELS.indexOf(entry.level) >= LEVELS.indexOf(level);
  }
}

class LogOutput extends View {
  /** @param {LogPage} page @param {HTMLElement} host */
  constructor(page, model, host) {
    super(page, host, "dora-log");
    this.follows = true;
    this.drawnNumber = 0;
    this.drawnResets = -1;
    this.drawnFilter = "";
    this.numUnseen = 0;
    this.query = "";
    this.marks = [];
    this.current = -1;
    this.buildBar();
    this.older = element("div", "dora-log-older");
    this.log = element("div", "dora-log-lines");
    this.log.tabIndex = 0; // so that the keyboard can scroll it
    this.log.setAttribute("role", "log");
    this.log.setAttribute("aria-label", "log");
    this.log.addEventListener("scroll", () => this.noteScroll());
    this.empty = element("div", "dora-log-empty");
    this.note = element("div", "dora-log-note");
    this.note.setAttribute("role", "status");
    this.root.append(this.older, this.log, this.empty, this.note);
    this.root.addEventListener("keydown", (event) => this.onKey(event));
  }
  buildBar() {
    this.node = this.labelled(element("select", "dora-log-select"), "node");
    this.level = this.labelled(element("select", "dora-log-select"), "lowest level");
    for (const level of LEVELS) this.level.append(new Option(level, level));
    const choose = () => this.page.choose({ node: this.node.value, level: this.level.value });
    this.node.addEventListener("change", choose);
    this.level.addEventListener("change", choose);
    this.search = this.labelled(element("input", "dora-log-search"), "search");
    this.search.type = "search";
    this.search.placeholder = "Search  ( / )";
    this.search.addEventListener("input", () => {
      clearTimeout(this.searchTimer);
      this.searchTimer = setTimeout(() => this.searchFor(this.search.value), SEARCH_MS);
    });
    this.found = element("span", "dora-log-found");
    this.found.setAttribute("role", "status");
    this.follow = element("button", "dora-log-follow", "Follow");
    this.follow.type = "button";
    this.follow.addEventListener("click", () => this.setFollows(true));
    const bar = element("div", "dora-log-bar");
    bar.append(this.node, this.level, this.search, this.found, this.follow);
    this.root.append(bar);
  }
  labelled(control, name) {
    control.setAttribute("aria-label", name);
    control.title = name;
    return control;
  }

  // ----- drawing

  draw() {
    const { page } = this;
    this.drawNodes();
    this.level.value = page.filter.level;
    this.drawLines();
    const { older = 0, running = false, declared = true } = page.status ?? {};
    setText(this.older, older ? `${numbered(older, "older line is", "older lines are")} not shown` : "");
    this.drawFollow();
    const { node } = page.filter;
    const state = page.lostReason() || (declared ? "" : `${node} is no longer declared`);
    this.root.classList.toggle("dora-log-gone", Boolean(page.lostReason()));
    if (!this.noteTimer) setText(this.note, state);
    let empty = "";
    if (![...this.log.children].some((row) => !row.hidden)) {
      const which = page.filter.level === "trace" ? "" : ` at level ${page.filter.level} or above`;
      empty = `${node || "no node"} has ${node ? "not " : ""}printed anything${which} yet`;
      if (!running) empty = `nothing to show${which}: the dataflow is not running`;
    }
    setText(this.empty, page.status ? empty : "");
  }
  drawNodes() {
    const { filter, status } = this.page;
    const names = [...(status?.nodes ?? [])];
    if (filter.node && !names.includes(filter.node)) names.push(filter.node);
    const drawn = [...this.node.options].slice(1).map((option) => option.value);
    // Not while it stays the same: an open list would close.
    if (!this.node.options.length || drawn.join("\n") !== names.join("\n")) {
      this.node.replaceChildren(new Option("all nodes", ""));
      for (const name of names) this.node.append(new Option(name, name));
    }
    this.node.value = filter.node;
  }
  drawLines() {
    const { page } = this;
    const filter = `${page.filter.level} ${page.filter.node}`;
    if (this.drawnResets !== page.resets) {
      this.drawnResets = page.resets;
      this.drawnNumber = 0;
      this.numUnseen = 0;
      this.log.replaceChildren();
    }
    const added = page.entries.filter((entry) => entry.number > this.drawnNumber);
    const surplus = this.log.childElementCount + added.length - page.entries.length;
    // A page that does not follow stays at its lines as long as they are kept.
    const last = this.log.lastElementChild;
    const [top, offset] = [this.log.scrollTop, last?.offsetTop ?? 0];
    for (let count = 0; count < surplus; count++) this.log.firstElementChild?.remove();
    if (surplus > 0 && last?.parentNode && !this.follows) {
      this.log.scrollTop = top + last.offsetTop - offset;
    }
    if (added.length) {
      this.log.setAttribute("aria-live", added.length > READ_ALOUD_LINES ? "off" : "polite");
    }
    this.log.append(...added.map((entry) => this.row(entry)));
    if (added.length) this.drawnNumber = added[added.length - 1].number;
    if (filter !== this.drawnFilter) {
      this.drawnFilter = filter;
      page.entries.forEach((entry, place) => {
        /** @type {HTMLElement} */ (this.log.children[place]).hidden = !page.passes(entry);
      });
    }
    this.log.classList.toggle("dora-log-one", Boolean(page.filter.node));
    if (!this.follows) this.numUnseen += added.filter((entry) => page.passes(entry)).length;
    if (this.query && (added.length || surplus > 0)) this.countMarks();
    if (this.follows) this.log.scrollTop = this.log.scrollHeight;
  }
  /** @param {Entry} entry */
  row(entry) {
    const row = element("div", "dora-log-row");
    row.dataset.level = entry.level;
    row.hidden = !this.page.passes(entry);
    const at = element("span", "dora-log-time", timeOfDay(entry.millis));
    at.title = new Date(entry.millis).toISOString();
    const kind = ["stderr", "engine"].includes(entry.stream) ? entry.stream : "";
    const level = element("span", "dora-log-level", entry.level === "info" ? kind || "info" : entry.level);
    level.title = entry.stream;
    const name = element("span", "dora-log-node", entry.node);
    name.title = entry.node;
    const text = element("span", "dora-log-text");
    this.fill(text, entry.text);
    row.append(at, level, name, text);
    return row;
  }
  /** Writes a line's text, with its places as buttons and what is searched for marked. */
  fill(node, text) {
    node.replaceChildren();
    let end = 0;
    for (const found of text.matchAll(PLACE)) {
      node.append(...this.marked(text.slice(end, found.index)));
      const place = element("button", "dora-log-place", ...this.marked(found[0]));
      place.type = "button";
      place.title = "go to this line";
      place.addEventListener("click", () => this.goTo(found[0], Number(found[1]), Number(found[2])));
      node.append(place);
      end = found.index + found[0].length;
    }
    node.append(...this.marked(text.slice(end)));
  }
  /** @param {string} text @returns {(Node | string)[]} */
  marked(text) {
    if (!this.query) return [text];
    const parts = [];
    const lower = text.toLowerCase();
    let end = 0;
    // Lower case may be longer than the text (İ): then the places would not fit.
    if (lower.length === text.length) {
      for (let at = lower.indexOf(this.query); at >= 0; at = lower.indexOf(this.query, end)) {
        parts.push(text.slice(end, at));
        end = at + this.query.length;
        parts.push(element("mark", "dora-log-mark", text.slice(at, end)));
      }
    }
    return [...parts, text.slice(end)];
  }

  // ----- search

  searchFor(query) {
    this.query = query.toLowerCase();
    this.current = -1;
    this.page.entries.forEach((entry, place) => {
      const text = this.log.children[place]?.querySelector(".dora-log-text");
      if (text && (this.query || text.querySelector("mark"))) this.fill(text, entry.text);
    });
    this.countMarks();
  }
  countMarks() {
    const current = this.marks[this.current];
    this.marks = [...this.log.querySelectorAll(".dora-log-row:not([hidden]) mark")];
    this.current = this.marks.indexOf(current);
    this.drawFound();
  }
  drawFound() {
    const place = this.current >= 0 ? `${(this.current + 1).toLocaleString("en")} of ` : "";
    const count = this.marks.length ? numbered(this.marks.length, "match", "matches") : "no match";
    setText(this.found, this.query ? place + count : "");
  }
  /** Goes to the next match, upwards from the end as in a terminal. @param {number} step */
  step(step) {
    if (!this.marks.length) return;
    const from = this.current < 0 && step < 0 ? 0 : this.current;
    this.marks[this.current]?.classList.remove("dora-log-current");
    this.current = (from + step + this.marks.length) % this.marks.length;
    const mark = this.marks[this.current];
    mark.classList.add("dora-log-current");
    this.setFollows(false);
    this.log.scrollTop = mark.closest(".dora-log-row").offsetTop - this.log.clientHeight / 2;
    this.drawFound();
  }
  onKey(event) {
    if (event.key === "/" && event.target !== this.search && !event.ctrlKey && !event.metaKey) {
      this.search.focus();
      this.search.select();
    } else if (event.key === "Enter" && event.target === this.search) {
      clearTimeout(this.searchTimer);
      if (this.query !== this.search.value.toLowerCase()) this.searchFor(this.search.value);
      this.step(event.shiftKey ? 1 : -1);
    } else if (event.key === "Escape" && event.target === this.search) {
      this.search.value = "";
      this.searchFor("");
      this.log.focus();
    } else if (event.key === "End" && event.target === this.log) {
      this.setFollows(true);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation(); // the notebook has meanings for these keys
  }

  // ----- following

  noteScroll() {
    const rest = this.log.scrollHeight - this.log.clientHeight - this.log.scrollTop;
    // Only a person scrolls away from the end: the view itself goes to it whenever lines are added.
    const atEnd = rest < 4;
    if (atEnd !== this.follows) this.setFollows(atEnd);
  }
  setFollows(follows) {
    this.follows = follows;
    if (follows) {
      this.numUnseen = 0;
      this.log.scrollTop = this.log.scrollHeight;
    }
    this.drawFollow();
  }
  drawFollow() {
    this.follow.setAttribute("aria-pressed", String(this.follows));
    const unseen = this.numUnseen ? ` (${this.numUnseen.toLocaleString("en")} new)` : "";
    setText(this.follow, `Follow${unseen}`);
  }

  // ----- places

  goTo(place, execution, lineNumber) {
    if (goToCell(this.root, execution, lineNumber)) return this.say("");
    // Without permission to copy, the sentence names the place all the same.
    const missing = `In[${execution}] is not on this page; it may have run again since.`;
    navigator.clipboard?.writeText(place).then(
      () => this.say(`${missing} Copied: ${place}`),
      () => this.say(missing),
    ) ?? this.say(missing);
  }
  say(text) {
    clearTimeout(this.noteTimer);
    this.noteTimer = text ? setTimeout(() => this.say(""), NOTE_MS) : undefined;
    setText(this.note, text || this.page.lostReason());
  }

  close() {
    clearTimeout(this.searchTimer);
    clearTimeout(this.noteTimer);
    super.close();
  }
}

export default pageWidget((page, model, host) => new LogOutput(page, model, host), LogPage);
