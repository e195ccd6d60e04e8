"use strict";
// What pages with packed maps share; they define DATA with the strings of `answer_page.pack` and the sizes of the maps.
const byId = (id) => document.getElementById(id);
const starts = [];
let cells = null;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
async function unpack() {
  const bytes = Uint8Array.from(atob(DATA.maps), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  cells = new Uint8Array(await new Response(stream).arrayBuffer());
  let start = 0;
  for (const [height, width] of DATA.sizes) { starts.push(start); start += Math.ceil(height * width / 5); }
}
function mapPicture(number, label, codes) {
  const [height, width] = DATA.sizes[number], canvas = element("canvas");
  canvas.width = width; canvas.height = height;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  if (!cells) return canvas;
  const image = new ImageData(width, height);
  const colours = codes.map((code) => [1, 3, 5].map((i) => parseInt(code.slice(i, i + 2), 16)));
  for (let cell = 0; cell < height * width; cell++) {
    const die = Math.floor(cells[starts[number] + Math.floor(cell / 5)] / 3 ** (cell % 5)) % 3;
    if (die) image.data.set([...colours[die - 1], 255], 4 * cell);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
function csvText(lines) {
  const quote = (value) => {  // and nothing that a spreadsheet takes for a formula, but numbers as they are
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" + value : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return lines.map((line) => line.map(quote).join(",")).join("\r\n") + "\r\n";
}
function saveCsv(name, text) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
