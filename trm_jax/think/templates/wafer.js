// Wafer maps: the class after every step, whether a person should look, and which dies the answer hangs on.
// A map is {height, width, cells}, cells row by row: 0 no die, 1 passing, 2 failing.

class WaferPage {
  // entry: {description, classes, temperature, thresholds, size, maps: [[name, ["0112", ...]], ...]}
  constructor(root, entry) {
    this.entry = entry;
    this.model = new Model(entry.description);
    this.message = element("p", {class: "message", role: "status", "aria-live": "polite"});
    this.canvas = element("canvas", {class: "wafer", tabindex: 0, width: 520, height: 520});
    this.bars = element("div", {class: "bars"});
    this.curves = element("div");
    this.player = new Player(this.model, () => this.draw());
    const file = element("input", {type: "file", accept: ".csv,text/csv", onchange: () => this.readFile(file)});
    root.append(
      element("div", {class: "controls"},
        choice("Example", entry.maps.map(([name], i) => [i, name]),
          i => this.load(parseMap(entry.maps[i][1].join("\n")))),
        element("label", {}, "Your map (CSV of 0, 1, 2) ", file),
        element("button", {type: "button", onclick: () => this.clear()}, "All dies pass")),
      element("div", {class: "columns"},
        element("div", {}, this.canvas, this.message,
          element("p", {class: "quiet"}, "Strongly filled dies fail. Click or drag over dies to change them; with the keyboard, " +
            "arrows move and space changes.")),
        element("div", {}, this.player.node, this.bars, this.curves,
          this.occlusionButton = element("button", {type: "button", onclick: () => this.occlude()}, "Which dies mattered?"),
          element("p", {class: "quiet"}, "Failing dies are made to pass, two by two at a time; circles show how much " +
            "probability the answer then loses, at the trained depth."))));
    this.cursor = 0;
    this.canvas.addEventListener("pointerdown", event => {
      const die = this.dieAt(event);
      if (die == null) return;
      this.paint = this.map.cells[die] === 1 ? 2 : 1;
      this.change(die);
      event.preventDefault();
    });
    this.canvas.addEventListener("pointermove", event => {
      const die = this.paint ? this.dieAt(event) : null;
      if (die != null) this.change(die);
    });
    addEventListener("pointerup", () => {
      if (this.paint) this.think();
      this.paint = 0;
    });
    this.canvas.addEventListener("keydown", event => this.key(event));
    this.load(parseMap(entry.maps[0][1].join("\n")));
  }

  async readFile(input) {
    try {
      this.load(parseMap(await input.files[0].text()));
    } catch (error) {
      this.message.textContent = `${input.files[0].name}: ${error.message}`;
      this.message.classList.add("bad");
    }
  }

  load(map) {
    this.map = {...map, cells: [...map.cells]};
    this.cursor = Math.floor(map.height / 2) * map.width + Math.floor(map.width / 2);
    this.think();
  }

  clear() {
    this.load({...this.map, cells: this.map.cells.map(cell => Math.min(cell, 1))});
  }

  dieAt(event) {
    const place = this.canvas.getBoundingClientRect(), {height, width} = this.map;
    const row = Math.floor((event.clientY - place.top) / place.height * height);
    const column = Math.floor((event.clientX - place.left) / place.width * width);
    const die = row * width + column;
    return row >= 0 && row < height && column >= 0 && column < width && this.map.cells[die] ? die : null;
  }

  change(die) {
    this.map.cells[die] = this.paint;
    this.mattered = null;
    this.drawMap();
  }

  key(event) {
    const {width, cells} = this.map;
    const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width}[event.key];
    if (step) this.cursor = Math.min(cells.length - 1, Math.max(0, this.cursor + step));
    else if (event.key === " " && cells[this.cursor]) {
      cells[this.cursor] = 3 - cells[this.cursor];
      this.think();
    } else return;
    event.preventDefault();
    this.drawMap();
  }

  think() {
    this.thinking?.stop();
    this.mattered = null;
    this.player.pause();
    this.thinking = new Thinking(this.model, toGrid(this.map, this.entry.size), this.player.steps, count => {
      if (count >= this.player.step) this.draw();
    });
    this.player.show(this.model.depth);
  }

  probabilities(reading) { return softmax(reading.logits.data.map(logit => logit / this.entry.temperature)); }

  draw() {
    const step = Math.min(this.player.step, this.thinking.readings.length), readings = this.thinking.readings;
    const {classes, thresholds} = this.entry;
    const shares = step ? this.probabilities(readings[step - 1]) : classes.map(() => 0);
    const best = shares.indexOf(Math.max(...shares)), limit = thresholds[best], sure = limit < 1 && shares[best] >= limit;
    const review = limit < 1 ? `below ${percent(limit)}` : "as always for this class";
    this.bars.replaceChildren(...classes.map((name, i) => {
      const fill = element("span", {class: "fill"});
      fill.style.width = `${100 * shares[i]}%`;
      return element("div", {class: step && i === best ? "bar best" : "bar"}, element("span", {class: "name"}, name),
        element("span", {class: "track"}, fill), element("span", {class: "number"}, percent(shares[i])));
    }));
    this.message.classList.toggle("bad", step > 0 && !sure);
    this.message.textContent = !step ? "Press Play." : `${classes[best]}, ${percent(shares[best])}: ` +
      (sure ? "decided automatically" : `for review by a person, ${review}`) +
      (step === this.model.depth ? "." : ", if read at this step; the threshold holds at the trained depth.");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `wafer map, ${this.map.height} by ${this.map.width}, ` +
      `${this.map.cells.filter(cell => cell === 2).length} failing dies of ${this.map.cells.filter(Boolean).length}`);
    drawCurves(this.curves, [
      {name: "halting head: belief that the answer is right", values: [null, ...readings.map(({halt}) => halt)], largest: 1},
      {name: "probability of the answer", values: [null, ...readings.map(reading => Math.max(...this.probabilities(reading)))],
        largest: 1, dashed: true},
    ], this.player.steps, this.model.depth, step);
    this.drawMap();
  }

  drawMap() {
    const {height, width, cells} = this.map, brush = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas), colour = name => style.getPropertyValue(name).trim();
    const w = this.canvas.width / width, h = this.canvas.height / height;
    brush.clearRect(0, 0, this.canvas.width, this.canvas.height);
    cells.forEach((cell, die) => {
      if (!cell) return;
      brush.fillStyle = colour(cell === 2 ? "--ink" : "--line");
      brush.fillRect(die % width * w + 0.5, Math.floor(die / width) * h + 0.5, w - 1, h - 1);
    });
    const largest = Math.max(0.05, ...(this.mattered || []).map(({loss}) => loss));
    for (const {row, column, loss} of this.mattered || []) {
      if (loss <= 0.002) continue;
      brush.beginPath();
      brush.arc((column + 1) * w, (row + 1) * h, Math.max(2, Math.sqrt(loss / largest) * Math.max(w, h) * 1.3), 0, 7);
      brush.strokeStyle = colour("--warn");
      brush.lineWidth = 3;
      brush.stroke();
    }
    if (document.activeElement === this.canvas) {
      brush.strokeStyle = colour("--accent");
      brush.lineWidth = 3;
      brush.strokeRect(this.cursor % width * w, Math.floor(this.cursor / width) * h, w, h);
    }
  }

  // Probability of the answer after the trained depth; of `label`, or of the most probable class.
  answer(map, label) {
    let state = this.model.start(toGrid(map, this.entry.size));
    for (let step = 0; step < this.model.depth; step++) state = this.model.step(state);
    const shares = this.probabilities(this.model.read(state));
    label ??= shares.indexOf(Math.max(...shares));
    return {label, share: shares[label]};
  }

  occlude() {
    const map = this.map, {height, width, cells} = map, whole = this.answer(map), blocks = [];
    for (let row = 0; row < height; row += 2)
      for (let column = 0; column < width; column += 2) {
        const dies = [[0, 0], [0, 1], [1, 0], [1, 1]].map(([down, right]) => [row + down, column + right])
          .filter(([r, c]) => r < height && c < width).map(([r, c]) => r * width + c).filter(die => cells[die] === 2);
        if (dies.length) blocks.push({row, column, dies});
      }
    this.mattered = [];
    const next = () => {
      if (this.map !== map || !this.mattered) return;
      const until = performance.now() + 40;
      while (this.mattered.length < blocks.length && performance.now() < until) {
        const block = blocks[this.mattered.length], changed = [...cells];
        for (const die of block.dies) changed[die] = 1;
        this.mattered.push({...block, loss: whole.share - this.answer({...map, cells: changed}, whole.label).share});
      }
      const done = this.mattered.length === blocks.length;
      this.occlusionButton.textContent = done ? "Which dies mattered?" : `${this.mattered.length} of ${blocks.length} …`;
      this.drawMap();
      if (!done) setTimeout(next, 0);
    };
    next();
  }
}

// A map from rows of 0, 1 and 2 with commas, semicolons, blanks or nothing between. Throws an Error that says why not.
function parseMap(text) {
  const rows = text.split(/\r?\n/).map(line => line.trim()).filter(Boolean)
    .map(line => /[,;\s]/.test(line) ? line.split(/[,;\s]+/) : [...line]);
  if (!rows.length) throw new Error("the file is empty");
  rows.forEach((row, i) => {
    const wrong = row.find(cell => !/^[012]$/.test(cell));
    if (wrong !== undefined) throw new Error(`row ${i + 1} has a cell "${wrong.slice(0, 20)}"; cells are 0, 1 or 2`);
    if (row.length !== rows[0].length) throw new Error(`row ${i + 1} has ${row.length} cells, row 1 has ${rows[0].length}`);
  });
  if (Math.min(rows.length, rows[0].length) < 5 || Math.max(rows.length, rows[0].length) > 300)
    throw new Error(`the map is ${rows.length} x ${rows[0].length}; sides are 5 to 300 dies`);
  return {height: rows.length, width: rows[0].length, cells: rows.flat().map(Number)};
}

// Shares of failing dies and of dies in the area of every cell of a square grid, 0..255: trm_jax/wafer/maps/grid.py.
function toGrid({height, width, cells}, size) {
  const rows = overlap(height, size), columns = transpose(overlap(width, size));
  const resize = mask => product(product(rows, matrix(height, width, Float32Array.from(cells, mask))), columns).data;
  const failing = resize(cell => cell === 2), dies = resize(cell => cell !== 0), grid = new Float32Array(2 * size * size);
  for (let i = 0; i < size * size; i++)
    [failing, dies].forEach((shares, channel) => { grid[2 * i + channel] = halfToEven(Math.fround(shares[i] * 255)); });
  return grid;
}

function overlap(side, size) {
  const shares = matrix(size, side);
  for (let cell = 0; cell < size; cell++)
    for (let die = 0; die < side; die++) {
      const common = Math.min((cell + 1) * side, (die + 1) * size) - Math.max(cell * side, die * size);
      shares.data[cell * side + die] = Math.max(common, 0) / side;
    }
  return shares;
}

function halfToEven(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + below % 2 : Math.round(value);
}
