// A tab for every task that the page has a model of.

const ENTRIES = JSON.parse(document.getElementById("entries").textContent);
const PAGES = {sudoku: ["Sudoku", root => new SudokuPage(root, ENTRIES.sudoku)],
  maze: ["Maze", root => new MazePage(root, ENTRIES.maze)], wafer: ["Wafer", root => new WaferPage(root, ENTRIES.wafer)]};
const tabs = Object.entries(PAGES).filter(([task]) => ENTRIES[task]).map(([task, [name, make]]) => {
  const panel = element("section", {role: "tabpanel", id: task, "aria-label": name, hidden: true});
  const button = element("button", {type: "button", role: "tab", "aria-controls": task}, name);
  document.querySelector(".tabs").append(button);
  document.querySelector("main").append(panel);
  return {panel, button, make, page: null};
});

function openTab(chosen) {
  for (const tab of tabs) {
    tab.panel.hidden = tab !== chosen;
    tab.button.setAttribute("aria-selected", tab === chosen);
  }
  chosen.page ||= chosen.make(chosen.panel);
}

tabs.forEach(tab => tab.button.addEventListener("click", () => openTab(tab)));
openTab(tabs.find(({panel}) => `#${panel.id}` === location.hash) || tabs[0]);
