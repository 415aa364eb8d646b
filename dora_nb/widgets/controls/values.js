// @ts-check
// Slider, Toggle, Button, Select and Text. page.js and control.js are prepended to this file.

class SliderView extends ControlView {
  constructor(page, model, host) {
    super(page, model, host, "slider");
    const { low, high, step } = this.settings;
    // The range counts steps, so that `high` can be reached though the last step is shorter.
    this.numSteps = Math.ceil((high - low) / step - 1e-9);
    this.range = element("input", "");
    Object.assign(this.range, { type: "range", min: 0, max: this.numSteps, step: 1 });
    this.range.addEventListener("input", () => {
      const value = this.valueAt(Number(this.range.value));
      this.page.say("set", { value });
      this.write(value);
    });
    this.range.addEventListener("pointerdown", () => (this.engaged = true));
    for (const ended of ["pointerup", "pointercancel", "blur", "change"]) {
      this.range.addEventListener(ended, () => (this.engaged = false));
    }
    this.place(this.range);
    this.show(this.settings.value);
  }
  valueAt(place) {
    const { low, high, step } = this.settings;
    return place >= this.numSteps ? high : Number((low + place * step).toPrecision(12));
  }
  show(value) {
    const { low, high, step } = this.settings;
    this.range.value = String(value >= high ? this.numSteps : Math.round((value - low) / step));
    this.write(value);
  }
  write(value) {
    setText(this.value, shownValue(value));
    this.range.setAttribute("aria-valuetext", shownValue(value));
    const { low, high } = this.settings;
    this.range.style.setProperty("--dora-filled", `${(100 * (value - low)) / (high - low)}%`);
  }
  disappeared() {
    this.engaged = false;
  }
}

class ToggleView extends ControlView {
  constructor(page, model, host) {
    super(page, model, host, "toggle");
    this.box = element("input", "");
    this.box.type = "checkbox";
    this.box.setAttribute("role", "switch");
    this.box.addEventListener("change", () => {
      this.page.say("set", { value: this.box.checked });
      this.write();
    });
    this.place(this.box);
    this.show(this.settings.value);
  }
  show(value) {
    this.box.checked = value === true;
    this.write();
  }
  write() {
    setText(this.value, this.box.checked ? "on" : "off");
  }
}

class ButtonView extends ControlView {
  constructor(page, model, host) {
    super(page, model, host, "button");
    this.button = element("button", "", this.settings.label);
    this.button.type = "button";
    this.button.addEventListener("click", () => this.page.say("press"));
    this.place(this.button);
    // Its own text first: the label beside it, which is the topic, would be its whole name.
    this.button.setAttribute("aria-labelledby", `${this.id} ${this.label.id}`);
  }
  show(presses) {
    setText(this.value, presses ? `${presses} sent` : "");
  }
}

class SelectView extends ControlView {
  constructor(page, model, host) {
    super(page, model, host, "select");
    this.list = element("select", "");
    for (const label of this.settings.labels) this.list.append(element("option", "", label));
    this.list.addEventListener("change", () => {
      this.page.say("set", { value: this.list.selectedIndex });
    });
    this.place(this.list);
  }
  show(place) {
    if (place !== null) this.list.selectedIndex = place;
  }
}

class TextView extends ControlView {
  constructor(page, model, host) {
    super(page, model, host, "text");
    this.field = element("input", "");
    Object.assign(this.field, { type: "text", maxLength: this.settings.most_chars });
    this.field.placeholder = "Enter sends it";
    this.field.spellcheck = false;
    this.sent = "";
    this.field.addEventListener("input", () => (this.engaged = true));
    this.field.addEventListener("change", () => {
      if (this.field.value !== this.sent) this.submit();
    });
    this.field.addEventListener("blur", () => (this.engaged = false));
    this.place(this.field);
  }
  pressed(event) {
    if (event.type === "keydown" && event.key === "Enter" && !event.isComposing) this.submit();
  }
  submit() {
    this.engaged = false;
    this.sent = this.field.value;
    this.page.say("set", { value: this.sent });
    setText(this.value, "sent");
  }
  show(value) {
    if (value === null) return;
    this.sent = value;
    if (this.field.value !== value) this.field.value = value;
    setText(this.value, "sent");
  }
}

const VIEWS = {
  slider: SliderView,
  toggle: ToggleView,
  button: ButtonView,
  select: SelectView,
  text: TextView,
};

export default pageWidget(
  (page, model, host) => new VIEWS[model.get("kind")](page, model, host),
  ControlPage,
);
