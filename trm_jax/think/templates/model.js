// A Tiny Recursive Model, one input at a time: what model.py, layers.py and recursion.py in trm_jax/core/network compute.

// Weights by the path they have in flax, such as "net/block_0/mlp/down/kernel".
function unpackWeights(base64, shapes) {
  const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
  const values = new Float32Array(bytes.buffer), weights = {};
  let start = 0;
  for (const [path, shape] of shapes) {
    const columns = shape[shape.length - 1], size = shape.reduce((a, b) => a * b, 1);
    weights[path] = matrix(size / columns, columns, values.subarray(start, start + size));
    start += size;
  }
  return weights;
}

class Model {
  // description: {model, recursion, shapes, weights, compared} as trm_jax/think/page.py writes it. A model of tokens whose
  // weights do not depend on the grid can be given another one, [rows, columns].
  constructor(description, grid = description.model.grid) {
    this.config = {...description.model, grid};
    this.recursion = description.recursion;
    this.compared = description.compared;  // steps after which page and JAX agree
    this.weights = description.unpacked ||= unpackWeights(description.weights, description.shapes);
    const {combine, use_z, width} = this.config;
    this.netWidth = combine === "concat" ? width * (use_z ? 3 : 2) : width;
    this.angles = this.config.positions.startsWith("rotary") ? this.rotaryAngles() : null;
    this.kinds = this.config.relations === "none" ? null : this.relationKinds();
  }

  get depth() { return this.recursion.N_sup; }

  // States before the first step. noise(): a number to add to every channel of the latent state, for rollouts.
  start(input, puzzle = 0, noise = null) {
    return this.embed(input, puzzle).map(x => {
      const fresh = name => {
        const state = matrix(x.rows, x.columns);
        if (this.config.initial_state !== "zero")
          for (let row = 0; row < x.rows; row++) state.data.set(this.weights[name].data, row * x.columns);
        return state;
      };
      const z = this.config.use_z ? fresh("initial_z") : null;
      return {x, y: fresh("initial_y"), z: noise && z ? elementwise(z, value => value + noise()) : z};
    });
  }

  // One supervision step: new states of all views.
  step(views) {
    const {T, n} = this.recursion, {form, use_z} = this.config;
    return views.map(({x, y, z}) => {
      for (let cycle = 0; cycle < T; cycle++) {
        if (form === "alternating" && use_z) {
          for (let i = 0; i < n; i++) z = this.updateZ(x, y, z);
          y = this.updateY(y, z);
        } else {
          for (let i = 0; i < (form === "alternating" ? n + 1 : n); i++) [y, z] = this.update(x, y, z);
        }
      }
      return {x, y, z};
    });
  }

  // {logits: matrix of a row per cell, or of one row, halt: probability that the whole answer is right, haltLogit}
  read(views) {
    const {prefix_tokens, readout, halt_token, width} = this.config;
    const answers = views.map(({y}) => {
      let cells = matrix(y.rows - prefix_tokens, width, y.data.subarray(prefix_tokens * width));
      if (readout === "mean_max") cells = sideBySide(overRows(cells, "mean"), overRows(cells, "max"));
      else if (readout === "pooled") cells = overRows(cells, "mean");
      const token = halt_token === "first" ? matrix(1, width, y.data.subarray(0, width)) : overRows(y, "mean");
      return [this.linear(cells, "readout"), this.linear(token, "halting")];
    });
    const mean = place => elementwise(sum(...answers.map(answer => answer[place])), value => value / answers.length);
    const haltLogit = mean(1).data[0];
    return {logits: mean(0), haltLogit, halt: sigmoid(haltLogit)};
  }

  updateZ(x, y, z) {
    const h = this.net(this.combine(x, y, z), "net");
    return this.config.combine === "concat" ? this.linear(h, "to_z") : h;
  }

  updateY(y, z) {
    const concat = this.config.combine === "concat";
    const h = concat ? sideBySide(matrix(y.rows, y.columns), y, z) : sum(y, z);
    const answer = this.net(h, this.config.separate_nets ? "net_y" : "net");
    return concat ? this.linear(answer, "to_y") : answer;
  }

  update(x, y, z) {
    const h = this.net(this.combine(x, y, z), "net");
    const projected = this.config.form === "joint" || this.config.combine === "concat";
    return [projected ? this.linear(h, "to_y") : h, this.config.use_z ? this.linear(h, "to_z") : null];
  }

  combine(...states) {
    const parts = states.filter(state => state);
    return this.config.combine === "concat" ? sideBySide(...parts) : sum(...parts);
  }

  // The question x of every view of an input: token numbers, or values 0..255 of an image (row, column, channel).
  embed(input, puzzle) {
    const {encoder, width, positions, prefix_tokens, prefix_width} = this.config;
    const images = encoder ? dihedralViews(input, encoder) : [input];
    return images.map(image => {
      let x = encoder ? this.stem(image) : this.lookUp(image);
      if (prefix_width) {
        const whole = matrix(prefix_tokens + x.rows, width);
        whole.data.set(this.weights.puzzles.data.subarray(puzzle * prefix_width, (puzzle + 1) * prefix_width));
        whole.data.set(x.data, prefix_tokens * width);
        x = whole;
      }
      if (positions === "learned") x = elementwise(sum(x, this.weights.positions), value => value * Math.SQRT1_2);
      return elementwise(x, value => value * Math.sqrt(width));
    });
  }

  lookUp(tokens) {
    const {width} = this.config, x = matrix(tokens.length, width);
    tokens.forEach((token, row) =>
      x.data.set(this.weights.tokens.data.subarray(token * width, (token + 1) * width), row * width));
    return x;
  }

  linear(x, path) {
    const y = product(x, this.weights[`${path}/kernel`]), bias = this.weights[`${path}/bias`];
    if (bias) for (let i = 0; i < y.data.length; i++) y.data[i] += bias.data[i % y.columns];
    return y;
  }

  norm(x, path, epsilon = this.config.norm_epsilon) {
    const scale = this.weights[`${path}/scale`], result = matrix(x.rows, x.columns), width = x.columns;
    for (let row = 0; row < x.rows; row++) {
      let square = 0;
      for (let i = row * width; i < (row + 1) * width; i++) square += x.data[i] * x.data[i];
      const factor = 1 / Math.sqrt(square / width + epsilon);
      for (let column = 0; column < width; column++)
        result.data[row * width + column] = x.data[row * width + column] * factor * (scale ? scale.data[column] : 1);
    }
    return result;
  }

  net(x, path) {
    for (let layer = 0; layer < this.config.layers; layer++) x = this.block(x, `${path}/block_${layer}`);
    return this.config.norm === "pre" ? this.norm(x, `${path}/norm`) : x;
  }

  block(x, path) {
    const swiglu = name => h => this.swiglu(h, `${path}/${name}`);
    if (this.config.mixer === "swiglu")
      x = transpose(this.residual(transpose(x), swiglu("mix"), `${path}/mix_norm`));
    else if (this.config.mixer === "linear") {
      const mixer = transpose(this.weights[`${path}/mix/kernel`]);
      x = this.residual(x, h => product(mixer, h), `${path}/mix_norm`);
    } else if (this.config.mixer === "convolution") {
      const kernel = this.weights[`${path}/mix/window/kernel`];
      x = this.residual(x, h => convolution(h, this.config.grid, kernel), `${path}/mix_norm`);
    } else x = this.residual(x, h => this.attention(h, `${path}/mix`), `${path}/mix_norm`);
    return this.residual(x, swiglu("mlp"), `${path}/mlp_norm`);
  }

  residual(x, layer, path) {
    return this.config.norm === "post" ? this.norm(sum(x, layer(x)), path) : sum(x, layer(this.norm(x, path)));
  }

  swiglu(x, path) {
    const both = this.linear(x, `${path}/gate_up`), hidden = both.columns / 2, gated = matrix(x.rows, hidden);
    for (let row = 0; row < x.rows; row++)
      for (let i = 0; i < hidden; i++) {
        const gate = both.data[row * both.columns + i];
        gated.data[row * hidden + i] = gate * sigmoid(gate) * both.data[row * both.columns + hidden + i];
      }
    return this.linear(gated, `${path}/down`);
  }

  attention(x, path) {
    const {heads} = this.config, tokens = x.rows, size = x.columns / heads;
    const qkv = this.linear(x, `${path}/qkv`), mixed = matrix(tokens, x.columns);
    const bias = this.weights[`${path}/relations`];
    for (let head = 0; head < heads; head++) {
      const [query, key, value] = [0, 1, 2].map(part => {
        const states = matrix(tokens, size);
        for (let row = 0; row < tokens; row++) {
          const start = row * qkv.columns + part * x.columns + head * size;
          states.data.set(qkv.data.subarray(start, start + size), row * size);
        }
        return states;
      });
      if (this.angles) [query, key].forEach(states => rotate(states, this.angles));
      const scores = product(elementwise(query, entry => entry / Math.sqrt(size)), transpose(key));
      if (bias)
        for (let i = 0; i < scores.data.length; i++) scores.data[i] += bias.data[head * bias.columns + this.kinds[i]];
      for (let row = 0; row < tokens; row++) {
        const line = scores.data.subarray(row * tokens, (row + 1) * tokens);
        line.set(softmax(line));
      }
      const result = product(scores, value);
      for (let row = 0; row < tokens; row++)
        mixed.data.set(result.data.subarray(row * size, (row + 1) * size), row * x.columns + head * size);
    }
    return this.linear(mixed, `${path}/out`);
  }

  rotaryAngles() {
    const {grid, heads, prefix_tokens, positions, rotary_base} = this.config;
    const half = this.netWidth / heads / 2, [rows, columns] = grid;
    const angles = matrix(prefix_tokens + rows * columns, half);
    const oneD = positions === "rotary_1d", count = oneD ? half : half / 2;
    for (let token = oneD ? 0 : prefix_tokens; token < angles.rows; token++) {
      const cell = token - prefix_tokens;
      for (let i = 0; i < half; i++) {
        const place = oneD ? token : i < count ? Math.floor(cell / columns) : cell % columns;
        angles.data[token * half + i] = place * Math.pow(rotary_base, -(i % count) / count);
      }
    }
    return angles;
  }

  relationKinds() {
    const {grid: [rows, columns], box, relations, prefix_tokens} = this.config, prefixKind = 8;
    const tokens = prefix_tokens + rows * columns, kinds = new Uint8Array(tokens * tokens).fill(prefixKind);
    for (let a = 0; a < rows * columns; a++)
      for (let b = 0; b < rows * columns; b++) {
        const [row, column, otherRow, otherColumn] =
          [Math.floor(a / columns), a % columns, Math.floor(b / columns), b % columns];
        const down = otherRow - row, right = otherColumn - column;
        let kind = (down === 0) + 2 * (right === 0);
        if (relations === "boxes" && Math.floor(row / box[0]) === Math.floor(otherRow / box[0])
          && Math.floor(column / box[1]) === Math.floor(otherColumn / box[1])) kind += 4;
        if (relations === "neighbours" && Math.abs(down) + Math.abs(right) === 1)
          kind = right === 1 ? 4 : right === -1 ? 5 : down === 1 ? 6 : 7;
        kinds[(prefix_tokens + a) * tokens + prefix_tokens + b] = kind;
      }
    return kinds;
  }

  // Convolution blocks, each of which halves the sides, then patches. Pixels are the rows of a matrix.
  stem(image) {
    const {widths, convolutions, patch} = this.config.encoder, {width} = this.config;
    let side = this.config.encoder.image, x = withRadius(image, side);
    widths.forEach((features, index) => {
      const path = `stem/ConvolutionBlock_${index}`;
      for (let layer = 0; layer < (convolutions[index] || 1); layer++) {
        x = convolution(x, [side, side], this.weights[`${path}/Convolution_${layer}/kernel`]);
        x = this.norm(x, `${path}/RMSNorm_${layer}`, 1e-5);
        const bias = this.weights[`${path}/bias_${layer}`].data;
        for (let i = 0; i < x.data.length; i++) x.data[i] = Math.max(0, x.data[i] + bias[i % x.columns]);
      }
      x = maxPool(x, side);
      side = Math.ceil(side / 2);
    });
    x = this.linear(patches(x, side, patch / 2 ** widths.length), "stem/patch");
    return elementwise(x, value => value / Math.sqrt(width));
  }
}
