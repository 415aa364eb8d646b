// @ts-check
// A line of text that shows what a cell waits for.

function render({ model, el }) {
  const line = document.createElement("div");
  line.className = "dora-progress";
  line.setAttribute("role", "status");
  const draw = () => {
    line.textContent = model.get("text");
  };
  model.on("change:text", draw);
  draw();
  el.append(line);
  return () => model.off("change:text", draw);
}

export default { render };
