// Mazes: walls to draw, S and G to move, and the way that grows from step to step.
// Tokens: 0 padding, 1 wall, 2 open, 3 start, 4 goal, 5 way (trm_jax/maze/grids.py).

const [WALL, OPEN, START, GOAL, WAY] = [1, 2, 3, 4, 5];

class MazePage {
  // entry: {description, mazes: [[name, ["#####", "#S G#", ...]], ...]}
  constructor(root, entry) {
    this.entry = entry;
    this.message = element("p", {class: "message", role: "status", "aria-live": "polite"});
    this.boardNode = element("div", {class: "board maze", role: "group", "aria-label": "maze"});
    this.curves = element("div");
    this.playerPlace = element("div");
    const trained = entry.description.model.grid[0];
    const sizes = Array.from({length: 8}, (_, i) => 7 + 2 * i).filter(side => side <= Math.max(trained + 6, 13));
    this.tool = "wall";
    const tool = choice("Click sets", [["wall", "wall or open"], ["start", "S"], ["goal", "G"]],
      chosen => { this.tool = chosen; });
    root.append(
      element("div", {class: "controls"},
        choice("Maze", entry.mazes.map(([name], i) => [i, name]), i => this.load(entry.mazes[i][1])),
        choice("New maze of", [["", "…"], ...sizes.map(side => [side, `${side} x ${side}`])],
          side => side && this.load(carve(Number(side)))),
        tool),
      element("div", {class: "columns"},
        element("div", {}, this.boardNode, this.message),
        element("div", {}, this.playerPlace, this.curves,
          element("p", {class: "quiet"}, "Dots are the way, as strong as the belief in it. Draw walls over open cells, open ones " +
            `over walls; with the keyboard, arrows move and space sets. The model was trained, and compared with JAX, on ${trained} x ` +
            `${trained} cells; other sizes show how far it carries.`))));
    this.boardNode.addEventListener("keydown", event => moveFocus(event, this.buttons, this.side));
    this.boardNode.addEventListener("pointerdown", event => this.draws(event));
    this.boardNode.addEventListener("pointermove", event => event.buttons && this.tool === "wall" && this.draws(event));
    addEventListener("pointerup", () => { this.paint = undefined; });
    this.load(entry.mazes[0][1]);
  }

  load(rows) {
    this.side = rows.length;
    this.tokens = rows.flatMap(row => Array.from(row, symbol => 1 + "# SG".indexOf(symbol)));
    this.model = new Model(this.entry.description, [this.side, this.side]);
    this.player?.pause();
    this.player = new Player(this.model, () => this.draw());
    this.playerPlace.replaceChildren(this.player.node);
    this.boardNode.style.setProperty("--side", this.side);
    this.buttons = this.tokens.map((_, cell) =>
      element("button", {type: "button", class: "cell", onclick: event => event.detail || this.set(cell)}));
    this.boardNode.replaceChildren(...this.buttons);
    this.think();
  }

  // The cell under a pointer gets what the tool sets; a stroke makes all of its cells what the first became.
  draws(event) {
    const cell = this.buttons.indexOf(document.elementFromPoint(event.clientX, event.clientY)?.closest("button"));
    if (cell < 0) return;
    this.set(cell, this.paint);
    if (this.tokens[cell] <= OPEN) this.paint = this.tokens[cell];
  }

  set(cell, wanted = this.tokens[cell] === WALL ? OPEN : WALL) {
    if (this.tool === "wall") {
      if (this.tokens[cell] > OPEN || this.tokens[cell] === wanted) return;
      this.tokens[cell] = wanted;
    } else {
      const token = this.tool === "start" ? START : GOAL, other = this.tool === "start" ? GOAL : START;
      if (this.tokens[cell] === other) return;
      this.tokens = this.tokens.map((old, i) => i === cell ? token : old === token ? OPEN : old);
    }
    this.think();
  }

  think() {
    this.thinking?.stop();
    this.player.pause();
    this.shortest = shortestWay(this.tokens, this.side);
    this.thinking = new Thinking(this.model, this.tokens, this.player.steps, () => this.draw());
    this.player.show(1);
  }

  answer({logits}) {
    return this.tokens.map((_, cell) => {
      const shares = softmax(logits.data.subarray(cell * logits.columns, (cell + 1) * logits.columns));
      return {way: shares[WAY], chosen: shares.indexOf(Math.max(...shares))};
    });
  }

  // Whether the open cells called way join S and G in one line without side branches.
  joins(cells) {
    const on = cell => cells[cell].chosen === WAY && this.tokens[cell] === OPEN || this.tokens[cell] >= START;
    const count = this.tokens.filter((_, cell) => on(cell)).length;
    const walked = shortestWay(this.tokens.map((token, cell) => token === OPEN && !on(cell) ? WALL : token), this.side);
    return walked > 0 && count === walked + 1;
  }

  draw() {
    const step = Math.min(this.player.step, this.thinking.readings.length), readings = this.thinking.readings;
    const cells = step ? this.answer(readings[step - 1]) : null;
    this.buttons.forEach((button, cell) => {
      const token = this.tokens[cell], way = cells && token === OPEN && cells[cell].way;
      const onWay = Boolean(way) && cells[cell].chosen === WAY;
      button.className = `cell ${token === WALL ? "wall" : ""} ${onWay ? "way" : ""}`;
      const mark = element("span", {class: way && token === OPEN ? "dot" : "digit"}, {[START]: "S", [GOAL]: "G"}[token] || "");
      if (way) mark.style.opacity = way < 0.02 ? 0 : 0.15 + 0.85 * way;
      button.setAttribute("aria-label", `row ${Math.floor(cell / this.side) + 1} column ${cell % this.side + 1}: ` +
        (["", "wall", onWay ? `way, ${percent(way)}` : "open", "start", "goal"][token]));
      button.replaceChildren(mark);
    });
    if (!this.shortest) this.message.textContent = "No way leads from S to G: open a wall.";
    else if (!cells) this.message.textContent = `The shortest way takes ${this.shortest} steps. Press Play.`;
    else {
      const joined = this.joins(cells);
      this.message.textContent = (joined ? "The dots join S and G in one line." : "The dots do not yet join S and G in one line.")
        + ` The shortest way takes ${this.shortest} steps. Belief that all is right: ${percent(readings[step - 1].halt)}.`;
    }
    drawCurves(this.curves, [
      {name: "belief that all is right, 0 to 1", values: [null, ...readings.map(({halt}) => halt)], largest: 1},
      {name: "cells on the way", values: [null, ...readings.map(reading =>
        this.answer(reading).filter(({chosen}, cell) => chosen === WAY && this.tokens[cell] === OPEN).length)],
        largest: Math.max(2 * this.shortest, 10), dashed: true},
    ], this.player.steps, this.model.depth, step);
  }
}

// Steps of a shortest way from S to G, breadth first; 0 without one.
function shortestWay(tokens, side) {
  let front = [tokens.indexOf(START)];
  const seen = new Set(front);
  for (let length = 1; front.length; length++) {
    const following = [];
    for (const cell of front)
      for (const [step, edge] of [[-1, 0], [1, side - 1], [-side, -1], [side, -1]]) {
        const next = cell + step;
        if (cell % side === edge || next < 0 || next >= tokens.length || seen.has(next) || tokens[next] === WALL) continue;
        if (tokens[next] === GOAL) return length;
        seen.add(next);
        following.push(next);
      }
    front = following;
  }
  return 0;
}

// A maze of corridors with one way between any two cells, as rows of symbols; the side is odd.
function carve(side) {
  const rows = Array.from({length: side}, () => Array(side).fill("#")), stack = [[1, 1]];
  rows[1][1] = " ";
  while (stack.length) {
    const [row, column] = stack[stack.length - 1];
    const open = [[0, 2], [0, -2], [2, 0], [-2, 0]].filter(([down, right]) => rows[row + down]?.[column + right] === "#"
      && row + down > 0 && column + right > 0 && row + down < side - 1 && column + right < side - 1);
    if (!open.length) { stack.pop(); continue; }
    const [down, right] = open[Math.floor(Math.random() * open.length)];
    rows[row + down / 2][column + right / 2] = rows[row + down][column + right] = " ";
    stack.push([row + down, column + right]);
  }
  rows[1][1] = "S";
  rows[side - 2][side - 2] = "G";
  return rows.map(row => row.join(""));
}
