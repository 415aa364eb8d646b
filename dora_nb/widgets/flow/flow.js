// @ts-check
// The live graph, drawn from the kernel's layout. dora_nb/widgets/flow/view.py has the messages. page.js is
// prepended to this file.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const THUMBNAIL_WIDTH = 56;
const THUMBNAIL_HEIGHT = 36;

/** @param {string} tag @param {Record<string, string | number>} attributes @param {string} [text] */
function shape(tag, attributes, text) {
  const made = document.createElementNS(SVG_NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The graph and the selected node live as long as the model: an output may be drawn anew. */
class FlowPage extends Page {
  /** @type {any} */
  graph = null;
  /** @type {string | null} */
  selected = null;
  /** @type {Map<string, string>} the address of each topic's picture */
  thumbnails = new Map();
  seen = "";

  take(message, buffers) {
    if (message.type === "thumbnail") return this.takeThumbnail(message.topic, buffers[0]);
    if (message.type !== "graph") return;
    this.graph = message;
    if (!message.boxes.some((box) => box.key === this.selected)) this.selected = null;
    this.draw();
  }

  takeThumbnail(topic, buffer) {
    URL.revokeObjectURL(this.thumbnails.get(topic) ?? "");
    const file = new Blob([bytesOf(buffer)], { type: "image/jpeg" });
    this.thumbnails.set(topic, URL.createObjectURL(file));
    this.drawSoon();
  }

  /** Says which nodes are on the screen: only their pictures are sent. */
  reported(count) {
    const seen = new Set();
    for (const view of this.views) if (view.visible) for (const key of view.seenNodes()) seen.add(key);
    const nodes = [...seen].sort();
    if (!count || nodes.join("\n") === this.seen) return;
    this.seen = nodes.join("\n");
    this.send({ type: "see", nodes });
  }

  close() {
    for (const address of this.thumbnails.values()) URL.revokeObjectURL(address);
    this.thumbnails.clear();
    super.close();
  }

  /** @param {string | null} node */
  select(node) {
    this.selected = node;
    this.send({ type: "select", node: node ?? "" });
    this.draw();
  }
}

class FlowGraph extends View {
  /** @param {FlowPage} page @param {HTMLElement} host */
  constructor(page, host) {
    super(page, host, "dora-flow");
    this.flow = page;
    this.drawnGraph = null;
    this.boxes = new Map(); // by key: the parts that change
    this.edges = new Map();
    this.pictures = new Map(); // by topic: where its picture is, and the picture
    this.head = element("div", "dora-flow-head");
    this.head.setAttribute("role", "status");
    this.advice = element("ul", "dora-flow-advice");
    this.advice.setAttribute("role", "status");
    this.advice.setAttribute("aria-label", "why messages are dropped");
    this.scroller = element("div", "dora-flow-scroller");
    this.panel = this.makePanel();
    this.root.append(this.head, this.scroller, this.advice, this.panel.root);
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.onMoved = () => {
      clearTimeout(this.movedTimer);
      this.movedTimer = setTimeout(() => this.page.report(), 100);
    };
    // Of any part of the page that scrolls.
    window.addEventListener("scroll", this.onMoved, { capture: true, passive: true });
    window.addEventListener("resize", this.onMoved);
  }

  close() {
    clearTimeout(this.movedTimer);
    window.removeEventListener("scroll", this.onMoved, { capture: true });
    window.removeEventListener("resize", this.onMoved);
    super.close();
  }

  /** The nodes of which some part can be seen. @returns {string[]} */
  seenNodes() {
    const frame = this.scroller.getBoundingClientRect();
    const left = Math.max(0, frame.left);
    const right = Math.min(window.innerWidth, frame.right);
    const seen = [];
    for (const [key, { group }] of this.boxes) {
      const box = group.getBoundingClientRect();
      const across = box.right > left && box.left < right;
      if (across && box.bottom > 0 && box.top < window.innerHeight) seen.push(key);
    }
    return seen;
  }

  draw() {
    const { status, graph } = this.flow;
    const lost = this.page.lostReason();
    this.root.classList.toggle("dora-flow-gone", lost !== "");
    setText(this.head, lost || (status?.text ?? "waiting for the kernel"));
    if (graph && graph !== this.drawnGraph) this.drawGraph(graph);
    for (const [key, parts] of this.boxes) this.drawNode(key, parts, status?.nodes?.[key]);
    for (const [key, parts] of this.edges) this.drawEdge(parts, status?.edges?.[key]);
    for (const [topic, place] of this.pictures) this.drawPicture(topic, place, status);
    this.drawAdvice(status?.advice ?? []);
    this.drawPanel(lost);
  }

  drawGraph(graph) {
    this.drawnGraph = graph;
    const focused = this.focusedNode();
    this.boxes.clear();
    this.edges.clear();
    this.pictures.clear();
    const { width, height } = graph;
    const picture = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
    picture.setAttribute("role", "group");
    picture.setAttribute("aria-label", "dataflow");
    // Shrunk to the cell's width as far as it can still be read; then it scrolls.
    picture.style.minWidth = `${Math.round(width * 0.85)}px`;
    picture.append(...graph.wires.map((wire) => this.wireShape(wire)));
    picture.append(...graph.boxes.map((box) => this.boxShape(box)));
    const sources = new Set(graph.wires.map((wire) => wire.topic));
    for (const topic of this.pictures.keys()) if (!sources.has(topic)) this.pictures.delete(topic);
    picture.append(...[...this.pictures.values()].map((place) => place.group));
    this.scroller.replaceChildren(...(graph.boxes.length ? [picture] : []));
    if (focused !== null) this.focusNode(focused);
  }

  wireShape(wire) {
    const [x, y] = wire.end;
    const group = shape("g", { class: "wire" });
    const title = shape("title", {}, wire.edge);
    const tip = `M${x - 7},${y - 4} ${x},${y} ${x - 7},${y + 4}z`;
    group.append(title, shape("path", { class: "line", d: wire.path }));
    group.append(shape("path", { class: "tip", d: tip }));
    this.edges.set(wire.edge, { group, title, text: null });
    return group;
  }

  boxShape(box) {
    const [x, y, width, height] = box.place;
    const group = shape("g", { class: `box ${box.kind}` });
    const title = shape("title", {}, box.title);
    const radius = box.kind === "timer" ? height / 2 : 6;
    group.append(title, shape("rect", { class: "ground", x, y, width, height, rx: radius }));
    if (box.kind === "timer") {
      const middle = { x: x + width / 2, y: y + 17, "text-anchor": "middle" };
      group.append(shape("text", middle, box.label));
      return group;
    }
    group.append(shape("text", { class: "title", x: x + 10, y: y + 18 }, box.label));
    if (box.kind === "operator") this.addState(group, box, title);
    else if (box.detail) group.append(shape("text", { x: x + 10, y: y + 35 }, box.detail));
    for (const [name, label, portX, portY] of box.inputs) {
      group.append(shape("text", { class: "port", x: portX + 10, y: portY + 4 }, label));
      const facts = shape("text", { class: "facts", x: portX + 10, y: portY + 18 });
      group.append(facts);
      const edge = this.edges.get(`${box.key}/${name}`);
      if (edge) edge.text = facts;
    }
    for (const [, label, portX, portY] of box.outputs) {
      const place = { class: "port", x: portX - 8, y: portY + 4, "text-anchor": "end" };
      group.append(shape("text", place, label));
    }
    for (const [name, , portX, portY] of box.outputs) this.addPicture(box.key, name, portX, portY);
    return group;
  }

  /** Room for a picture at the beginning of a connection. */
  addPicture(node, output, x, y) {
    const topic = `${node}/${output}`;
    const group = shape("g", { class: "thumbnail" });
    group.append(shape("title", {}, topic));
    this.pictures.set(topic, { group, node, x: x + 6, y, image: null, address: "" });
  }

  drawPicture(topic, place, status) {
    const address = this.flow.thumbnails.get(topic) ?? "";
    const state = status?.nodes?.[place.node]?.state;
    place.group.classList.toggle("old", state !== "running" && state !== "amber");
    if (address === place.address) return;
    place.address = address;
    const image = new Image();
    // Its size is that of the picture; and it takes the place of the last one once it is decoded.
    image.onload = () => {
      if (place.address !== address) return;
      const scale = Math.min(
        THUMBNAIL_WIDTH / image.naturalWidth,
        THUMBNAIL_HEIGHT / image.naturalHeight,
      );
      const width = image.naturalWidth * scale;
      const height = image.naturalHeight * scale;
      const box = { x: place.x, y: place.y - height / 2, width, height };
      const shown = shape("image", { ...box, href: address, preserveAspectRatio: "none" });
      const frame = shape("rect", { ...box, class: "frame", rx: 2 });
      place.group.replaceChildren(place.group.firstChild, shown, frame);
    };
    image.src = address;
  }

  addState(group, box, title) {
    const [x, y] = box.place;
    const dot = shape("circle", { class: "dot", cx: x + 14, cy: y + 31, r: 4 });
    const state = shape("text", { class: "state", x: x + 24, y: y + 35 });
    const facts = shape("text", { class: "facts", x: x + 10, y: y + 50 });
    group.append(dot, state, facts);
    group.setAttribute("tabindex", "0");
    group.setAttribute("role", "button");
    group.addEventListener("click", () => this.toggle(box.key));
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault(); // Space would scroll the notebook
      event.stopPropagation(); // Enter would edit the cell
      this.toggle(box.key);
    });
    this.boxes.set(box.key, { group, title, state, facts, name: box.title });
  }

  drawNode(key, parts, node) {
    parts.group.dataset.state = node?.state ?? "declared";
    setText(parts.state, node?.text ?? "");
    setText(parts.facts, node?.facts ?? "");
    setText(parts.title, node?.title ?? parts.name);
    const selected = this.flow.selected === key;
    parts.group.classList.toggle("selected", selected);
    parts.group.setAttribute("aria-expanded", String(selected));
    const label = [node?.title ?? parts.name, node?.facts].filter(Boolean).join(", ");
    parts.group.setAttribute("aria-label", label);
  }

  drawEdge(parts, edge) {
    if (!edge) return;
    parts.group.classList.toggle("drops", edge.drops);
    setText(parts.title, edge.title);
    if (!parts.text) return;
    setText(parts.text, edge.text);
    parts.text.classList.toggle("drops", edge.drops);
  }

  drawAdvice(sentences) {
    this.advice.hidden = sentences.length === 0;
    const shown = [...this.advice.children];
    sentences.forEach((sentence, index) => {
      if (!shown[index]) this.advice.append(element("li", "", sentence));
      else setText(shown[index], sentence);
    });
    for (const more of shown.slice(sentences.length)) more.remove();
  }

  // ----- the panel of the selected node

  makePanel() {
    const button = (label, act) => {
      const made = element("button", "", label);
      made.setAttribute("type", "button");
      made.addEventListener("click", act);
      return made;
    };
    const act = (type) => () => this.page.send({ type, node: this.flow.selected });
    const parts = {
      root: element("section", "dora-flow-panel"),
      name: element("strong", ""),
      state: element("span", "dora-flow-quiet"),
      cell: button("Go to cell", () => this.goToCell()),
      restart: button("Restart", act("restart")),
      stop: button("Stop", act("stop")),
      close: button("Close", () => this.deselect()),
      action: element("span", "dora-flow-action"),
      error: element("div", "dora-flow-error"),
      lines: element("pre", "dora-flow-lines"),
    };
    parts.action.setAttribute("role", "status");
    parts.lines.setAttribute("tabindex", "0"); // so that the keyboard can scroll it
    const bar = element("div", "dora-flow-bar", parts.name, parts.state, parts.action);
    bar.append(parts.cell, parts.restart, parts.stop, parts.close);
    parts.root.append(bar, parts.error, parts.lines);
    parts.root.hidden = true;
    return parts;
  }

  drawPanel(lost) {
    const { panel, flow } = this;
    const name = flow.selected;
    panel.root.hidden = name === null;
    if (name === null) return;
    const node = flow.status?.nodes?.[name];
    const more = flow.status?.panels?.[name];
    panel.root.setAttribute("aria-label", name);
    panel.lines.setAttribute("aria-label", `last lines of ${name}`);
    setText(panel.name, name);
    setText(panel.state, [node?.title?.slice(name.length + 2), more?.declared].filter(Boolean).join(" · "));
    setText(panel.action, more?.action ?? "");
    panel.action.classList.toggle("failed", Boolean(more?.action_failed));
    panel.restart.hidden = panel.stop.hidden = more?.steerable === false;
    panel.restart.disabled = lost !== "" || !more?.can_restart;
    panel.stop.disabled = lost !== "" || !more?.can_stop;
    panel.cell.hidden = this.cellPlace() === null;
    setText(panel.error, [more?.place, more?.error].filter(Boolean).join(": "));
    const atEnd =
      panel.lines.scrollTop + panel.lines.clientHeight >= panel.lines.scrollHeight - 4;
    const lines = more?.lines ?? [];
    setText(panel.lines, !more ? "" : lines.length ? lines.join("\n") : "it has printed nothing");
    if (atEnd) panel.lines.scrollTop = panel.lines.scrollHeight;
  }

  /** Where the selected node's error is, or else its cell; null where the page does not have that cell. */
  cellPlace() {
    const more = this.flow.status?.panels?.[this.flow.selected ?? ""];
    for (const place of [more?.place, more?.declared]) {
      const found = /^Cell In\[(\d+)\](?:, line (\d+))?/.exec(place ?? "");
      if (!found) continue;
      const execution = Number(found[1]);
      if (cellOf(this.root, execution)) return { execution, line: Number(found[2] ?? 1) };
    }
    return null;
  }

  goToCell() {
    const place = this.cellPlace();
    if (place) goToCell(this.root, place.execution, place.line);
  }

  // -----

  toggle(key) {
    this.flow.select(this.flow.selected === key ? null : key);
  }

  deselect() {
    const node = this.flow.selected;
    this.flow.select(null);
    if (node !== null) this.focusNode(node);
  }

  onKey(event) {
    if (event.key !== "Escape" || this.flow.selected === null) return;
    event.stopPropagation();
    this.deselect();
  }

  focusedNode() {
    for (const [key, parts] of this.boxes) if (parts.group === document.activeElement) return key;
    return null;
  }

  focusNode(key) {
    this.boxes.get(key)?.group.focus();
  }
}

export default pageWidget((page, _model, host) => new FlowGraph(page, host), FlowPage);
