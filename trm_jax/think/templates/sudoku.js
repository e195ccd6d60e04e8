// Sudoku: a board to type into, what is believed of every cell after every step, and whether the rules hold.

class SudokuPage {
  // entries: [{name, description, box: [rows, columns], puzzles: [[level, "1..4..."], ...]}]
  constructor(root, entries) {
    this.root = root;
    this.entries = entries;
    this.message = element("p", {class: "message", role: "status", "aria-live": "polite"});
    this.boardNode = element("div", {class: "board", role: "group", "aria-label": "Sudoku board"});
    this.pad = element("div", {class: "pad"});
    this.curves = element("div");
    this.rollouts = element("div", {class: "rollouts"});
    this.noise = element("input", {type: "range", min: 0, max: 2, step: 0.1, value: 0.5, "aria-label": "noise"});
    this.boardNode.addEventListener("keydown", event => this.key(event));
    const size = choice("Size", entries.map((entry, i) => [i, entry.name]), i => this.open(Number(i)));
    this.puzzleLabel = element("span");
    this.playerPlace = element("div");
    root.append(
      element("div", {class: "controls"}, entries.length > 1 ? size : null, this.puzzleLabel,
        element("button", {type: "button", onclick: () => this.load(".".repeat(this.cells))}, "Empty board")),
      element("div", {class: "columns"},
        element("div", {}, this.boardNode, this.pad, this.message),
        element("div", {}, this.playerPlace, this.curves,
          element("p", {class: "quiet"}, "Large digits are the answer, as strong as the belief in it; small ones are " +
            "other digits still believed in. Cells that break the rules have a thick striped edge. Click a cell and " +
            "type a digit, or 0 to clear it."))),
      element("h3", {}, "Noisy rollouts"),
      element("p", {class: "quiet"}, "The same puzzle from eight noisy starts of the latent state, at the step shown. " +
        "Where they agree, the model is sure."),
      element("div", {class: "controls"}, element("label", {}, "Noise ", this.noise),
        element("button", {type: "button", onclick: () => this.startRollouts()}, "Try 8 noisy starts")),
      this.rollouts);
    this.open(0);
  }

  open(index) {
    const entry = this.entries[index];
    this.model = new Model(entry.description);
    this.box = entry.box;
    this.side = entry.box[0] * entry.box[1];
    this.cells = this.side ** 2;
    this.units = sudokuUnits(entry.box);
    this.player?.pause();
    this.player = new Player(this.model, () => this.draw());
    this.playerPlace.replaceChildren(this.player.node);
    const hardest = entry.puzzles[entry.puzzles.length - 1][1];
    this.puzzleLabel.replaceChildren(
      choice("Puzzle", entry.puzzles.map(([level, text]) => [text, level]), text => this.load(text), hardest));
    this.boardNode.style.setProperty("--side", this.side);
    this.buttons = Array.from({length: this.cells}, (_, cell) => {
      const row = Math.floor(cell / this.side), column = cell % this.side;
      const edges = (row % this.box[0] === 0 && row ? " top" : "") + (column % this.box[1] === 0 && column ? " left" : "");
      return element("button", {type: "button", class: `cell${edges}`});
    });
    this.boardNode.replaceChildren(...this.buttons);
    this.pad.replaceChildren(...Array.from({length: this.side + 1}, (_, i) => (i + 1) % (this.side + 1)).map(digit =>
      element("button", {type: "button", onclick: () => this.type(digit), "aria-label": digit ? `enter ${digit}` : "clear"},
        digit ? String(digit) : "⌫")));
    this.buttons.forEach((button, cell) => button.addEventListener("focus", () => this.select(cell)));
    this.selected = 0;
    this.load(hardest);
  }

  load(text) {
    this.givens = Array.from(text, character => character === "." ? 0 : Number(character));
    this.think();
  }

  select(cell) {
    this.selected = cell;
    this.buttons.forEach((button, i) => button.classList.toggle("selected", i === cell));
  }

  key(event) {
    if (moveFocus(event, this.buttons, this.side)) return;
    if (/^[0-9]$/.test(event.key)) this.type(Number(event.key));
    else if (event.key === "Backspace" || event.key === "Delete" || event.key === " ") this.type(0);
    else return;
    event.preventDefault();
  }

  type(digit) {
    if (digit > this.side) {
      this.message.textContent = `This board takes the digits 1 to ${this.side}.`;
      return;
    }
    this.givens[this.selected] = digit;
    this.think();
  }

  // The first pair of equal givens in a unit as a sentence, or "".
  fault() {
    for (const [name, unit] of this.units)
      for (const cell of unit)
        if (this.givens[cell] && unit.some(other => other !== cell && this.givens[other] === this.givens[cell]))
          return `Two cells of ${name} are ${this.givens[cell]}: no answer can keep the rules. Clear one of them.`;
    return "";
  }

  think() {
    this.thinking?.stop();
    this.stopRollouts();
    this.player.pause();
    const input = this.givens.map(digit => digit + 1);  // token 0 is padding, 1 a blank
    this.thinking = new Thinking(this.model, input, this.player.steps, () => this.draw());
    this.player.show(this.fault() ? 0 : Math.min(1, this.player.steps));
  }

  // Per cell probabilities of the digits and the most probable one; answers[0] is the puzzle itself.
  answer(reading) {
    const {logits} = reading;
    return Array.from({length: this.cells}, (_, cell) => {
      const all = softmax(logits.data.subarray(cell * logits.columns, (cell + 1) * logits.columns));
      const best = all.indexOf(Math.max(...all));
      return {digit: Math.max(0, best - 1), digits: all.slice(2), strength: all[best]};
    });
  }

  broken(digits) {
    const wrong = digits.map((digit, cell) => digit === 0 || (this.givens[cell] !== 0 && this.givens[cell] !== digit));
    for (const [, unit] of this.units)
      for (const cell of unit)
        if (unit.some(other => other !== cell && digits[other] === digits[cell])) wrong[cell] = true;
    return wrong;
  }

  draw() {
    const step = Math.min(this.player.step, this.thinking.readings.length);
    const readings = this.thinking.readings, cells = step ? this.answer(readings[step - 1]) : null;
    const digits = cells ? cells.map(({digit}) => digit) : this.givens;
    const fault = this.fault();
    const wrong = cells ? this.broken(digits)
      : digits.map((digit, cell) => digit > 0 && this.units.some(([, unit]) => unit.includes(cell)
        && unit.some(other => other !== cell && digits[other] === digit)));
    this.buttons.forEach((button, cell) => {
      const given = this.givens[cell], name = `row ${Math.floor(cell / this.side) + 1} column ${cell % this.side + 1}`;
      button.classList.toggle("given", given > 0);
      button.classList.toggle("wrong", wrong[cell]);
      const believed = cells?.[cell];
      const text = given || (believed?.digit || "");
      const state = given ? `given ${given}` : believed ? `${text || "no digit"}, ${percent(believed.strength)}` : "blank";
      button.setAttribute("aria-label", `${name}: ${state}${wrong[cell] ? ", breaks the rules" : ""}`);
      const large = element("span", {class: "digit"}, String(text));
      if (!given && believed) large.style.opacity = 0.25 + 0.75 * believed.strength;
      const small = element("span", {class: "candidates", "aria-hidden": "true"});
      if (!given && believed)
        believed.digits.forEach((share, i) => {
          if (share >= 0.02 && i + 1 !== text) {
            const digit = element("span", {}, String(i + 1));
            digit.style.opacity = Math.min(1, 0.35 + share);
            small.append(digit);
          }
        });
      button.replaceChildren(large, small);
    });
    const count = wrong.filter(Boolean).length;
    if (fault) this.message.textContent = fault;
    else if (!cells) this.message.textContent = `${digits.filter(digit => !digit).length} blanks. Press Play.`;
    else this.message.textContent = (count ? `${count} cells break the rules.` : "Solved: givens and rules hold.")
      + ` Belief that all is right: ${percent(readings[step - 1].halt)}.`;
    this.message.classList.toggle("bad", fault !== "" || (cells !== null && count > 0));
    const violations = readings.map(reading => this.broken(this.answer(reading).map(({digit}) => digit)).filter(Boolean).length);
    drawCurves(this.curves, [
      {name: "belief that all is right, 0 to 1", values: [null, ...readings.map(({halt}) => halt)], largest: 1},
      {name: `cells that break the rules, 0 to ${this.cells}`, values: [null, ...violations], largest: this.cells, dashed: true},
    ], this.player.steps, this.model.depth, step);
    this.drawRollouts();
  }

  startRollouts() {
    this.stopRollouts();
    const input = this.givens.map(digit => digit + 1), size = Number(this.noise.value);
    this.runs = Array.from({length: 8}, () =>
      new Thinking(this.model, input, this.player.steps, () => this.drawRollouts(), () => size * gaussian()));
    this.drawRollouts();
  }

  stopRollouts() {
    this.runs?.forEach(run => run.stop());
    this.runs = [];
  }

  drawRollouts() {
    const step = Math.max(1, this.player.step);
    this.rollouts.replaceChildren(...(this.runs || []).filter(run => run.readings.length).map(run => {
      const reading = run.readings[Math.min(step, run.readings.length) - 1];
      const digits = this.answer(reading).map(({digit}) => digit), wrong = this.broken(digits);
      const count = wrong.filter(Boolean).length;
      const mini = element("div", {class: "mini", "aria-hidden": "true"}, ...digits.map((digit, cell) =>
        element("span", {class: (this.givens[cell] ? "given" : "") + (wrong[cell] ? " wrong" : "")}, String(digit || "·"))));
      mini.style.setProperty("--side", this.side);
      return element("figure", {}, mini, element("figcaption", {},
        `${count ? `${count} broken` : "rules hold"}, belief ${percent(reading.halt)}`));
    }));
  }
}

// Rows, columns and boxes as [name, cells].
function sudokuUnits([boxRows, boxColumns]) {
  const side = boxRows * boxColumns, units = [], all = Array.from({length: side}, (_, i) => i);
  for (const i of all) {
    const boxRow = Math.floor(i / boxRows) * boxRows, boxColumn = i % boxRows * boxColumns;
    units.push([`row ${i + 1}`, all.map(j => i * side + j)], [`column ${i + 1}`, all.map(j => j * side + i)],
      [`box ${i + 1}`, all.map(j => (boxRow + Math.floor(j / boxColumns)) * side + boxColumn + j % boxColumns)]);
  }
  return units;
}

function gaussian() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}
