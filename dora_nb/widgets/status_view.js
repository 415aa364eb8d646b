// @ts-check
// The table of `%dora status`, drawn from rows of text. The rows of the moment when the cell ran are a
// trait; later ones come as messages, with live numbers. page.js is prepended to this file.

/**
 * @typedef {{name: string, state: string, text: string, generation: string, inputs: string[],
 *   outputs: string[], warnings: string[], failure: string, numbers: string[]}} Row
 */

const COLUMNS = ["operator", "state", "generation", "inputs", "outputs", "now"];

/** @param {string[]} texts */
function lines(texts) {
  const cell = element("td", "");
  for (const text of texts) cell.append(element("div", "", text));
  return cell;
}

/** A row of one cell, below the row of an operator. @param {string} kind @param {string} text */
function rowBelow(kind, text) {
  const reason = element("td", kind, text);
  reason.setAttribute("colspan", String(COLUMNS.length));
  const below = element("tr", "dora-status-failure");
  below.append(reason);
  return below;
}

/** The row of an operator, and below it its warnings and why it failed. @param {Row} row */
function rowElements(row) {
  const made = element("tr", "");
  const name = element("th", "", row.name);
  name.setAttribute("scope", "row");
  const state = element("td", "");
  const dot = element("span", "dora-status-dot");
  dot.dataset.state = row.state;
  dot.setAttribute("aria-hidden", "true");
  state.append(dot, row.text);
  const now = lines(row.numbers);
  now.classList.add("dora-status-numbers");
  made.append(name, state, lines([row.generation]), lines(row.inputs), lines(row.outputs), now);
  const below = [];
  const warnings = (row.warnings ?? []).join("\n");
  if (warnings) below.push(rowBelow("dora-status-warnings", warnings));
  if (row.failure) below.push(rowBelow("dora-line-message", row.failure));
  return [made, ...below];
}

/** @param {Row[]} rows */
function tableElement(rows) {
  if (!rows.length) return element("div", "", "no operator is declared");
  const table = element("table", "dora-status-table");
  const head = element("tr", "");
  for (const column of COLUMNS) {
    const cell = element("th", "", column);
    cell.setAttribute("scope", "col");
    head.append(cell);
  }
  const top = element("thead", "");
  top.append(head);
  const body = element("tbody", "");
  body.append(...rows.flatMap(rowElements));
  table.append(top, body);
  return table;
}

class StatusTable extends View {
  /** @param {Page} page @param {HTMLElement} host */
  constructor(page, model, host) {
    super(page, host, "dora-status");
    this.model = model;
  }
  draw() {
    this.root.classList.toggle("dora-status-gone", !this.page.connected);
    const rows = this.page.status?.rows ?? this.model.get("rows");
    this.root.replaceChildren(tableElement(rows));
  }
}

export default pageWidget((page, model, host) => new StatusTable(page, model, host));
