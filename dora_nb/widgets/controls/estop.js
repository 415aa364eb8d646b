// @ts-check
// The EStop. page.js and control.js are prepended to this file.

const PATIENCE_MS = 1000;

/** Hears the key wherever the button is on the page. */
class EStopPage extends ControlPage {
  constructor(model) {
    super(model);
    const { key } = model.get("settings");
    this.onStopKey = (event) => {
      if (!key || event.key !== key || event.repeat || !this.views.size) return;
      event.preventDefault();
      event.stopPropagation(); // to the notebook; the buttons of other cells hear it at the window too
      this.press();
    };
    window.addEventListener("keydown", this.onStopKey, true);
  }
  receive(message, buffers) {
    super.receive(message, buffers);
    // A warning that this front end lacks subshells must be there before the first press.
    if (!message.greeting || this.asked) return;
    this.asked = true;
    this.say("probe");
  }
  press() {
    this.say("press");
    this.pressedHere = true;
    this.unanswered = false;
    clearTimeout(this.patience);
    this.patience = setTimeout(() => {
      this.unanswered = this.pending;
      this.draw();
    }, PATIENCE_MS);
    this.draw();
  }
  close() {
    window.removeEventListener("keydown", this.onStopKey, true);
    clearTimeout(this.patience);
    super.close();
  }
}

class EStopView extends ControlView {
  constructor(page, model, host) {
    super(page, model, host, "estop");
    const { key, latches } = this.settings;
    this.label.remove();
    this.button = element("button", "dora-estop-button", "STOP");
    this.button.type = "button";
    this.button.setAttribute("aria-label", `Emergency stop${latches ? ` on ${this.topic}` : ""}`);
    if (key) {
      this.button.append(element("kbd", "dora-estop-key", key));
      this.button.setAttribute("aria-keyshortcuts", key);
    }
    // At once when it is touched; a click is only made when it is let go on the same place. Keys and screen
    // readers make a click without that.
    this.button.addEventListener("pointerdown", () => this.press());
    this.button.addEventListener("click", ({ detail }) => {
      if (detail === 0) this.press();
    });
    this.place(this.button);
    this.side = element("div", "dora-estop-side", this.value);
    this.value.classList.add("dora-estop-said");
    this.value.setAttribute("role", "alert");
    if (latches) {
      this.side.append(element("span", "dora-estop-topic", this.topic));
      this.button.setAttribute("aria-pressed", "false");
      this.release = element("button", "dora-estop-release", "Release");
      this.release.type = "button";
      this.release.addEventListener("click", () => this.page.say("release"));
      this.side.append(this.release);
    }
    this.foot.before(this.side);
    this.warning = element("div", "dora-estop-warning");
    this.warning.setAttribute("role", "alert");
    this.root.append(this.warning);
  }
  lateText() {
    return ""; // the warning says more
  }
  press() {
    if (!this.button.disabled) this.page.press();
  }
  draw() {
    super.draw();
    const { status, pending, late, unanswered } = this.page;
    const lost = this.page.lostReason();
    const { latches } = this.settings;
    const pressed = Boolean(status?.value) || (pending && this.page.pressedHere);
    if (!pending) this.page.pressedHere = false;
    this.root.classList.toggle("dora-held", pressed);
    if (this.release) {
      this.button.setAttribute("aria-pressed", String(pressed));
      this.release.disabled = !pressed || Boolean(lost);
    }
    const stopped = status?.stops > 0 && status?.state === "stopped";
    const done = latches ? "pressed: True is sent" : "stopping the dataflow";
    setText(this.value, pressed ? done : !latches && stopped ? "the dataflow was stopped" : "");
    const warnings = [];
    if (lost) warnings.push("This button does nothing now.");
    else if (unanswered && pending) warnings.push("The kernel has not answered yet: stop the robot by other means.");
    else if (late) warnings.push("While a cell runs this button waits for its end: this front end lacks subshells.");
    setText(this.warning, warnings.join(" "));
  }
}

export default pageWidget((page, model, host) => new EStopView(page, model, host), EStopPage);
