// From images to patches of convolved cells, as trm_jax/core/encoders.py computes them; pixels are the rows.

// An image as it is, mirrored on the rising diagonal, turned by a half, mirrored on the falling diagonal.
function dihedralViews(image, {image: side, channels, views}) {
  const last = side - 1;
  const sources = [(r, c) => [r, c], (r, c) => [last - c, last - r], (r, c) => [last - r, last - c], (r, c) => [c, r]];
  return sources.slice(0, views).map(source => {
    const seen = new Float32Array(image.length);
    for (let row = 0; row < side; row++)
      for (let column = 0; column < side; column++) {
        const [fromRow, fromColumn] = source(row, column);
        for (let channel = 0; channel < channels; channel++)
          seen[(row * side + column) * channels + channel] = image[(fromRow * side + fromColumn) * channels + channel];
      }
    return seen;
  });
}

// Pixels with their distance from the centre as one more channel; values 0..255 become 0..1.
function withRadius(image, side) {
  const channels = image.length / side ** 2, x = matrix(side * side, channels + 1);
  const place = index => (index + 0.5) / side * 2 - 1;
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++) {
      const pixel = row * side + column;
      for (let i = 0; i < channels; i++) x.data[pixel * x.columns + i] = image[pixel * channels + i] / 255;
      x.data[pixel * x.columns + channels] = Math.hypot(place(row), place(column));
    }
  return x;
}

// 3x3 convolution with zeros around the image.
function convolution(x, [rows, columns], kernel) {
  const shifted = matrix(rows * columns, 9 * x.columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      for (let i = 0; i < 9; i++) {
        const r = row + Math.floor(i / 3) - 1, c = column + i % 3 - 1;
        if (r < 0 || c < 0 || r >= rows || c >= columns) continue;
        const pixel = (r * columns + c) * x.columns;
        shifted.data.set(x.data.subarray(pixel, pixel + x.columns),
          (row * columns + column) * shifted.columns + i * x.columns);
      }
  return product(shifted, kernel);
}

function maxPool(x, side) {
  const half = Math.ceil(side / 2), result = matrix(half * half, x.columns);
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++)
      for (let i = 0; i < x.columns; i++) {
        const target = (Math.floor(row / 2) * half + Math.floor(column / 2)) * x.columns + i;
        result.data[target] = Math.max(result.data[target], x.data[(row * side + column) * x.columns + i]);
      }
  return result;
}

function patches(x, side, patch) {
  const count = Math.ceil(side / patch), result = matrix(count * count, patch * patch * x.columns);
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++) {
      const token = Math.floor(row / patch) * count + Math.floor(column / patch);
      const inside = (row % patch) * patch + column % patch, pixel = (row * side + column) * x.columns;
      result.data.set(x.data.subarray(pixel, pixel + x.columns), token * result.columns + inside * x.columns);
    }
  return result;
}
