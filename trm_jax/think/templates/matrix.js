"use strict";
// A matrix is {rows, columns, data}, data a Float32Array row by row; tokens are its rows, channels its columns.

const matrix = (rows, columns, data = new Float32Array(rows * columns)) => ({rows, columns, data});

const elementwise = (x, f) => matrix(x.rows, x.columns, x.data.map(f));

function sum(...parts) {
  const total = matrix(parts[0].rows, parts[0].columns);
  for (const {data} of parts) for (let i = 0; i < data.length; i++) total.data[i] += data[i];
  return total;
}

function sideBySide(...parts) {
  const whole = matrix(parts[0].rows, parts.reduce((width, part) => width + part.columns, 0));
  let start = 0;
  for (const {rows, columns, data} of parts) {
    for (let row = 0; row < rows; row++)
      whole.data.set(data.subarray(row * columns, (row + 1) * columns), row * whole.columns + start);
    start += columns;
  }
  return whole;
}

function transpose(x) {
  const turned = matrix(x.columns, x.rows);
  for (let row = 0; row < x.rows; row++)
    for (let column = 0; column < x.columns; column++)
      turned.data[column * x.rows + row] = x.data[row * x.columns + column];
  return turned;
}

function product(a, b) {
  const result = matrix(a.rows, b.columns), width = b.columns, out = result.data, left = a.data, right = b.data;
  for (let row = 0; row < a.rows; row++) {
    const place = row * width;
    for (let k = 0; k < a.columns; k++) {
      const factor = left[row * a.columns + k], start = k * width;
      if (factor !== 0) for (let column = 0; column < width; column++) out[place + column] += factor * right[start + column];
    }
  }
  return result;
}

function softmax(values) {
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Array.from(values, value => Math.exp(value - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map(power => power / total);
}

const sigmoid = value => 1 / (1 + Math.exp(-value));

function overRows(x, kind) {
  const result = matrix(1, x.columns);
  if (kind === "max") result.data.fill(-Infinity);
  for (let i = 0; i < x.data.length; i++) {
    const column = i % x.columns;
    if (kind === "max") result.data[column] = Math.max(result.data[column], x.data[i]);
    else result.data[column] += x.data[i] / x.rows;
  }
  return result;
}

function rotate(x, angles) {
  const half = angles.columns;
  for (let row = 0; row < x.rows; row++)
    for (let i = 0; i < half; i++) {
      const angle = angles.data[row * half + i], place = row * 2 * half + i;
      const first = x.data[place], second = x.data[place + half];
      x.data[place] = first * Math.cos(angle) - second * Math.sin(angle);
      x.data[place + half] = second * Math.cos(angle) + first * Math.sin(angle);
    }
}
