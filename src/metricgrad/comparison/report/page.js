"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll("[data-figure]")];
  const still = { displayModeBar: false, responsive: true, displaylogo: false };

  const colored = (value) => {
    if (Array.isArray(value)) return value.map(colored);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, colored(inner)]));
    const name = typeof value === "string" && value.match(/^var\((--[a-z-]+)\)$/);
    return name ? getComputedStyle(document.documentElement).getPropertyValue(name[1]).trim() : value;
  };

  const laidOut = (layout, narrow) => {
    const axis = { gridcolor: "var(--line)", linecolor: "var(--line)", tickcolor: "var(--line)", tickfont: { color: "var(--ink)" } };
    return {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: "var(--ink)", family: getComputedStyle(document.body).fontFamily, size: narrow ? 12 : 13 },
      margin: { l: narrow ? 48 : 64, r: 16, t: 24, b: 56 },
      hoverlabel: { bgcolor: "var(--surface)", bordercolor: "var(--line)", font: { color: "var(--ink)" } },
      legend: { ...layout.legend, font: { color: "var(--ink)" } },
      xaxis: { ...axis, ...layout.xaxis },
      // names of losses stand over their lines where there is no room beside them
      yaxis: { ...axis, ...layout.yaxis, ...(narrow && layout.yaxis.ticktext ? { ticklabelposition: "inside top" } : {}) },
    };
  };

  // one drawing after the other: Plotly refuses a second one of the same element while the first goes on
  let drawing = Promise.resolve();
  const draw = () => {
    drawing = drawing.then(async () => {
      for (const plot of plots) {
        const { data, layout } = figures[plot.dataset.figure];
        const shown = data.map((trace) => ({ ...trace, visible: visible(trace.meta) }));
        await Plotly.react(plot, colored(shown), colored(laidOut(layout, plot.clientWidth < 520)), still);
      }
      document.documentElement.dataset.drawn = "yes";
    });
    return drawing;
  };

  const visible = (kind) => {
    const box = kind && document.querySelector(`input[data-shows="${kind}"]`);
    return !box || box.checked;
  };
  for (const box of document.querySelectorAll("input[data-shows]")) box.addEventListener("change", draw);

  for (const choice of document.querySelectorAll("input[data-reading]"))
    choice.addEventListener("change", () => {
      for (const table of document.querySelectorAll("[data-of-reading]"))
        table.hidden = table.dataset.ofReading !== choice.dataset.reading;
    });

  const keyOf = (row, place) => {
    const cell = row.cells[place];
    const number = cell.dataset.value;
    return number === undefined ? cell.textContent.trim().toLowerCase() : number === "" ? NaN : Number(number);
  };
  const compared = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b);
    return a - b;
  };
  for (const button of document.querySelectorAll("table.sorts th button"))
    button.addEventListener("click", () => {
      const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const keyed = [...body.rows].map((row) => [keyOf(row, head.cellIndex), row]);
      const missing = ([key]) => typeof key === "number" && Number.isNaN(key);
      const known = keyed.filter((one) => !missing(one));
      known.sort(([a], [b]) => (descending ? -1 : 1) * compared(a, b));
      body.append(...[...known, ...keyed.filter(missing)].map(([, row]) => row));
    });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const paper = matchMedia("print");
  paper.addEventListener("change", draw);
  addEventListener("beforeprint", () => { for (const more of document.querySelectorAll("details")) more.open = true; });
  draw();
})();
