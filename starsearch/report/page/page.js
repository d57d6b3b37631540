// A click on a heading sorts its table; rows without a value stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.addEventListener("click", () => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const isMissing = (row) => key(row) === "";
    const compare = (a, b) => key(a).localeCompare(key(b), undefined, { numeric: false });
    const compareNumbers = (a, b) => Number(key(a)) - Number(key(b));
    const rows = [...table.tBodies[0].rows];
    const byNumber = rows.every((row) => !Number.isNaN(Number(key(row))));
    rows.sort((a, b) => isMissing(a) - isMissing(b) || (byNumber ? compareNumbers : compare)(a, b) * (down ? -1 : 1));
    table.tBodies[0].append(...rows);
  }));
}

// Figures take their colours from the page, which follows the system's light or dark.
function paintFigures() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  for (const figure of document.querySelectorAll(".plotly-graph-div")) {
    const changes = {
      "font.color": color("--ink"), "hoverlabel.bgcolor": color("--tile"), "hoverlabel.font.color": color("--ink"),
    };
    for (const axis of Object.keys(figure.layout).filter((name) => /^[xy]axis/.test(name))) {
      changes[`${axis}.gridcolor`] = color("--grid");
      changes[`${axis}.linecolor`] = color("--line");
    }
    (figure.layout.updatemenus ?? []).forEach((_, i) => {
      changes[`updatemenus[${i}].font.color`] = color("--ink");
      changes[`updatemenus[${i}].bgcolor`] = color("--tile");
      changes[`updatemenus[${i}].bordercolor`] = color("--line");
    });
    Plotly.relayout(figure, changes);
  }
}
paintFigures();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintFigures);
