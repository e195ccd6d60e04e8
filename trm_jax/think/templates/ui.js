// What the pages of all tasks share: elements, curves, and a slider that walks through supervision steps.

function element(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "circle", "rect", "text", "g"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(child => child != null));
  return node;
}

const percent = share => `${Math.round(100 * share)} %`;

// A select with a label; options are [value, text].
function choice(label, options, onchange, chosen = options[0][0]) {
  const select = element("select", {onchange: event => onchange(event.target.value)},
    ...options.map(([value, text]) => element("option", {value, selected: value === chosen}, text)));
  return element("label", {}, `${label} `, select);
}

// Curves over steps: series of {name, values (null where not known yet), largest, dashed}; a line at the step shown.
function drawCurves(target, series, steps, depth, shown) {
  const width = 340, height = 150, left = 12, right = 12, top = 22, bottom = 24;
  const x = step => left + (width - left - right) * step / steps;
  const y = (value, largest) => height - bottom - (height - top - bottom) * value / largest;
  const svg = element("svg", {viewBox: `0 0 ${width} ${height}`, class: "curves", role: "img",
    "aria-label": series.map(({name, values}) => `${name} at step ${shown}: ${values[shown] ?? "none"}`).join("; ")});
  svg.append(element("line", {x1: left, x2: width - right, y1: y(0, 1), y2: y(0, 1), class: "axis"}),
    element("line", {x1: x(shown), x2: x(shown), y1: top, y2: y(0, 1), class: "now"}),
    element("line", {x1: x(depth), x2: x(depth), y1: top, y2: y(0, 1), class: "depth"}),
    element("text", {x: x(depth) + (depth * 2 > steps ? -3 : 3), y: 12,
      "text-anchor": depth * 2 > steps ? "end" : "start"}, "trained depth"));
  for (let step = 0; step <= steps; step++)
    if (steps <= 12 || step % 4 === 0)
      svg.append(element("text", {x: x(step), y: height - 8, "text-anchor": "middle"}, String(step)));
  series.forEach(({values, largest, dashed}) => {
    const points = values.map((value, step) => [step, value]).filter(([, value]) => value != null)
      .map(([step, value]) => [x(step), y(Math.min(value, largest), largest)]);
    svg.append(element("path", {d: points.map(([a, b], i) => `${i ? "L" : "M"}${a} ${b}`).join(""),
      class: dashed ? "curve dashed" : "curve"}));
    for (const [a, b] of points)
      svg.append(dashed ? element("rect", {x: a - 3, y: b - 3, width: 6, height: 6, class: "mark dashed"})
        : element("circle", {cx: a, cy: b, r: 3.2, class: "mark"}));
  });
  target.replaceChildren(svg, element("p", {class: "legend"}, ...series.map(({name, dashed}) =>
    element("span", {class: dashed ? "key dashed" : "key"}, name))));
}

// The steps of one input, computed one after another while the page stays awake.
class Thinking {
  constructor(model, input, steps, onstep, noise = null) {
    Object.assign(this, {model, steps, onstep});
    this.readings = [];
    this.state = model.start(input, 0, noise);
    setTimeout(() => this.next(), 0);
  }

  next() {
    if (this.stopped || this.readings.length === this.steps) return;
    this.state = this.model.step(this.state);
    this.readings.push(this.model.read(this.state));
    this.onstep(this.readings.length);
    setTimeout(() => this.next(), 0);
  }

  stop() { this.stopped = true; }
}

// Slider and play button; onshow(step) draws.
class Player {
  constructor({depth, compared}, onshow) {
    Object.assign(this, {steps: 2 * depth, depth, compared, onshow, step: 0});
    this.slider = element("input", {type: "range", min: 0, max: this.steps, value: 0, "aria-label": "supervision step",
      oninput: () => { this.pause(); this.show(Number(this.slider.value)); }});
    this.button = element("button", {type: "button", class: "play", onclick: () => this.toggle()}, "Play");
    this.label = element("output", {class: "step"});
    this.node = element("div", {class: "player"}, this.button, this.slider, this.label);
  }

  show(step) {
    this.step = step;
    this.slider.value = step;
    const past = step > this.depth ? `, ${step - this.depth} past the trained depth` : "";
    const rounding = step > this.compared ? ". So deep, rounding alone changes what this net answers: JAX may say otherwise" : "";
    this.label.textContent = step ? `Step ${step}${past}${rounding}` : "Before the first step";
    this.onshow(step);
  }

  toggle() {
    if (this.timer) return this.pause();
    if (this.step === this.steps) this.show(0);
    this.button.textContent = "Pause";
    this.timer = setInterval(() => {
      if (this.step < this.steps) this.show(this.step + 1);
      if (this.step === this.steps) this.pause();
    }, 700);
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = "Play";
  }
}

// Arrow keys move the focus between the cells of a grid of buttons, all of one length of row.
function moveFocus(event, cells, columns) {
  const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[event.key];
  const place = cells.indexOf(document.activeElement);
  if (!step || place < 0) return false;
  const edge = (step === -1 && place % columns === 0) || (step === 1 && place % columns === columns - 1);
  if (!edge) cells[place + step]?.focus();
  event.preventDefault();
  return true;
}
