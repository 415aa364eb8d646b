// @ts-check
// Joystick, Keys and Gamepad. page.js and control.js are prepended to this file.

const LEAST_REPEAT_MS = 16;

/** Says that it is held, again and again, and that it is released as soon as it may not be. */
class MotionView extends ControlView {
  constructor(page, model, host, kind) {
    super(page, model, host, kind);
    const { rate, deadman_secs } = this.settings;
    // Several times in the dead-man's time: one message that is late must not stop the robot.
    this.repeatMs = Math.max(LEAST_REPEAT_MS, Math.min(1000 / rate, (1000 * deadman_secs) / 4));
    this.held = null;
    this.onBlur = () => this.letGo();
    window.addEventListener("blur", this.onBlur);
  }
  /** Holds with what the kernel needs to know, such as `{value: [0, 1]}`. */
  hold(held) {
    const isNew = JSON.stringify(held) !== JSON.stringify(this.held);
    this.held = held;
    this.engaged = true;
    if (isNew) this.page.say("hold", held);
    this.repeat ??= setInterval(() => this.page.say("hold", this.held), this.repeatMs);
  }
  release() {
    if (!this.held) return;
    this.stopRepeating();
    this.page.say("release");
    this.show(this.settings.neutral);
  }
  stopRepeating() {
    clearInterval(this.repeat);
    this.repeat = undefined;
    this.held = null;
    this.engaged = false;
  }
  /** Lets go of all that a person may hold. */
  letGo() {
    this.release();
  }
  enable(enabled) {
    super.enable(enabled);
    if (!enabled && this.held) this.letGo();
  }
  disappeared() {
    this.letGo();
  }
  close() {
    window.removeEventListener("blur", this.onBlur);
    super.close(); // lets go: it disappears
    this.stopRepeating();
  }
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** Within the unit circle. @returns {[number, number]} */
export function inCircle(x, y) {
  const length = Math.max(1, Math.hypot(x, y));
  return [x / length, y / length];
}

class JoystickView extends MotionView {
  constructor(page, model, host) {
    super(page, model, host, "joystick");
    this.pointer = null; // where it is held, from -1 to 1
    this.pointerId = undefined;
    this.arrows = new Set();
    this.half = false;
    this.pad = element("div", "dora-joystick-pad");
    this.knob = element("div", "dora-joystick-knob");
    this.pad.append(this.knob);
    this.pad.tabIndex = 0;
    this.pad.setAttribute("role", "slider");
    this.pad.setAttribute("aria-roledescription", "joystick");
    this.pad.setAttribute("aria-labelledby", this.label.id);
    this.pad.setAttribute("aria-valuemin", "-1");
    this.pad.setAttribute("aria-valuemax", "1");
    this.place(this.pad);
    this.pad.addEventListener("pointerdown", (event) => this.grab(event));
    this.pad.addEventListener("pointermove", (event) => {
      if (event.pointerId === this.pointerId) this.follow(event);
    });
    for (const ended of ["pointerup", "pointercancel", "lostpointercapture"]) {
      this.pad.addEventListener(ended, ({ pointerId }) => {
        if (pointerId === this.pointerId) this.dropPointer();
      });
    }
    this.pad.addEventListener("blur", () => {
      this.arrows.clear();
      this.update();
    });
    this.show(this.settings.neutral);
  }
  grab(event) {
    if (event.button !== 0 || this.disabled) return;
    event.preventDefault(); // no text is selected
    this.pad.focus({ preventScroll: true });
    this.pointerId = event.pointerId;
    try {
      this.pad.setPointerCapture(event.pointerId);
    } catch {
      // the pointer is gone already
    }
    this.follow(event);
  }
  follow(event) {
    const box = this.pad.getBoundingClientRect();
    const reach = (box.width - this.knob.offsetWidth) / 2;
    const x = event.clientX - box.left - box.width / 2;
    const y = event.clientY - box.top - box.height / 2;
    this.pointer = inCircle(x / reach, -y / reach);
    this.update();
  }
  dropPointer() {
    this.pointer = null;
    this.pointerId = undefined;
    this.update();
  }
  pressed(event) {
    this.half = event.shiftKey;
    if (event.key in ARROWS && event.target === this.pad && !this.disabled) {
      event.preventDefault(); // the page does not scroll
      if (event.type === "keydown") this.arrows.add(event.key);
      else this.arrows.delete(event.key);
    }
    this.update();
  }
  update() {
    if (!this.pointer && !this.arrows.size) return this.release();
    let value = this.pointer;
    if (!value) {
      const sum = [0, 1].map((axis) =>
        [...this.arrows].reduce((total, key) => total + ARROWS[key][axis], 0),
      );
      value = inCircle(sum[0], sum[1]).map((each) => (this.half ? each / 2 : each));
    }
    value = value.map((each) => Number(each.toFixed(3)) || 0); // no -0
    this.hold({ value });
    this.show(value);
  }
  letGo() {
    this.pointer = null;
    this.pointerId = undefined;
    this.arrows.clear();
    this.release();
  }
  enable(enabled) {
    this.disabled = !enabled;
    this.pad?.setAttribute("aria-disabled", String(!enabled));
    super.enable(enabled);
  }
  show(value) {
    const [x, y] = value;
    // A neutral value may be any two numbers; the knob stays in its pad.
    const [across, up] = inCircle(x, y);
    this.knob.style.setProperty("--dora-x", String(across));
    this.knob.style.setProperty("--dora-y", String(-up));
    this.pad.classList.toggle("dora-held", Boolean(this.held));
    this.pad.setAttribute("aria-valuenow", String(Math.hypot(across, up).toFixed(2)));
    this.pad.setAttribute("aria-valuetext", `x ${x.toFixed(2)}, y ${y.toFixed(2)}`);
    setText(this.value, shownValue(value));
  }
}

const KEY_NAMES = {
  " ": "Space",
  ArrowUp: "↑",
  ArrowDown: "↓",
  ArrowLeft: "←",
  ArrowRight: "→",
};

class KeysView extends MotionView {
  constructor(page, model, host) {
    super(page, model, host, "keys");
    this.down = new Map(); // what holds a key (a place on the keyboard, or a pointer), and the key
    this.caps = new Map();
    this.pad = element("div", "dora-keys-pad");
    this.pad.tabIndex = 0;
    this.pad.setAttribute("role", "group");
    this.pad.setAttribute("aria-labelledby", this.label.id);
    for (const key of this.settings.keys) {
      const cap = element("kbd", "dora-keys-cap", KEY_NAMES[key] ?? key);
      cap.addEventListener("pointerdown", (event) => this.grab(event, key));
      for (const ended of ["pointerup", "pointercancel", "lostpointercapture"]) {
        cap.addEventListener(ended, ({ pointerId }) => this.lift(`pointer ${pointerId}`));
      }
      this.caps.set(key, cap);
      this.pad.append(cap);
    }
    this.hint = element("span", "dora-keys-hint");
    this.pad.append(this.hint);
    this.place(this.pad);
    this.pad.addEventListener("focus", () => this.write());
    this.pad.addEventListener("blur", () => this.letGo());
    this.write();
    this.show(this.settings.neutral);
  }
  grab(event, key) {
    if (event.button !== 0 || this.disabled) return;
    event.preventDefault();
    this.pad.focus({ preventScroll: true });
    try {
      event.currentTarget.setPointerCapture(event.pointerId);
    } catch {
      // the pointer is gone already
    }
    this.press(`pointer ${event.pointerId}`, key);
  }
  press(holder, key) {
    this.down.set(holder, key);
    this.update();
  }
  lift(holder) {
    if (this.down.delete(holder)) this.update();
  }
  pressed(event) {
    // By its place, since with Shift the same key has another name when it comes up.
    if (event.type === "keyup") return this.lift(event.code || event.key);
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!this.caps.has(key) || event.target !== this.pad || this.disabled) return;
    event.preventDefault();
    if (!event.repeat) this.press(event.code || event.key, key);
  }
  handleKey(event) {
    super.handleKey(event);
    // A key that comes up together with Ctrl or Alt is up all the same.
    if (event.type === "keyup") this.lift(event.code || event.key);
    else if (event.key === "Escape" && event.composedPath().includes(this.root)) this.letGo();
  }
  update() {
    const keys = [...new Set(this.down.values())];
    if (keys.length) this.hold({ keys });
    else this.release();
    this.write();
  }
  letGo() {
    this.down.clear();
    this.release();
    this.write();
  }
  enable(enabled) {
    this.disabled = !enabled;
    this.pad?.setAttribute("aria-disabled", String(!enabled));
    super.enable(enabled);
  }
  write() {
    const held = new Set(this.down.values());
    for (const [key, cap] of this.caps) cap.classList.toggle("dora-held", held.has(key));
    const focused = document.activeElement === this.pad;
    setText(this.hint, focused ? "hold keys" : "click here, then hold keys");
    if (held.size) setText(this.value, [...held].map((key) => KEY_NAMES[key] ?? key).join(" + "));
    this.pad.classList.toggle("dora-held", held.size > 0);
  }
  show(value) {
    setText(this.value, shownValue(value));
  }
}

class GamepadView extends MotionView {
  constructor(page, model, host) {
    super(page, model, host, "gamepad");
    const { axes, buttons } = this.settings;
    this.bars = [];
    this.pad = element("div", "dora-gamepad-bars");
    this.pad.setAttribute("role", "group");
    this.pad.setAttribute("aria-labelledby", this.label.id);
    for (const name of [...axes.map((axis) => `axis ${axis}`), ...buttons.map((each) => `button ${each}`)]) {
      const bar = element("span", "dora-gamepad-bar");
      const fill = element("span", "dora-gamepad-fill");
      bar.append(fill);
      const meter = element("span", "dora-gamepad-meter", element("span", "", name), bar);
      this.pad.append(meter);
      this.bars.push(fill);
    }
    this.hint = element("span", "dora-gamepad-hint");
    this.pad.append(this.hint);
    this.place(this.pad);
    this.show(this.settings.neutral);
    this.write(undefined);
  }
  appeared() {
    // Browsers do not send events for the axes of a gamepad.
    this.poll ??= setInterval(() => this.look(), this.repeatMs);
  }
  disappeared() {
    clearInterval(this.poll);
    this.poll = undefined;
    super.disappeared();
  }
  look() {
    const pad = [...(navigator.getGamepads?.() ?? [])].find((each) => each?.connected);
    this.write(pad);
    const usable = pad && document.hasFocus() && !this.disabled;
    const value = usable ? this.valueOf(pad) : null;
    if (!value) return this.release();
    this.hold({ value });
    this.show(value);
  }
  /** What is commanded; null while nothing is touched. */
  valueOf(pad) {
    const { axes, buttons, deadzone } = this.settings;
    const value = [
      // In the standard layout odd axes are vertical, and down is 1.
      ...axes.map((axis) => (axis % 2 ? -1 : 1) * (pad.axes[axis] ?? 0)),
      ...buttons.map((button) => pad.buttons[button]?.value ?? 0),
    ].map((each) => (Math.abs(each) <= deadzone ? 0 : Number(Math.min(1, Math.max(-1, each)).toFixed(3))));
    return value.some((each) => each !== 0) ? value : null;
  }
  enable(enabled) {
    this.disabled = !enabled;
    super.enable(enabled);
  }
  write(pad) {
    setText(this.hint, pad ? pad.id : "press a button of the gamepad");
    this.pad.classList.toggle("dora-gamepad-missing", !pad);
  }
  show(value) {
    value.forEach((each, place) => {
      const fill = this.bars[place];
      if (!fill) return;
      const part = Math.min(1, Math.max(-1, each));
      fill.style.left = `${50 * Math.min(1, 1 + part)}%`;
      fill.style.width = `${50 * Math.abs(part)}%`;
    });
    setText(this.value, shownValue(value));
  }
}

const VIEWS = { joystick: JoystickView, keys: KeysView, gamepad: GamepadView };

export default pageWidget(
  (page, model, host) => new VIEWS[model.get("kind")](page, model, host),
  ControlPage,
);
