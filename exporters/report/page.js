"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll("[data-chart]")];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Charts wear the colours of the page, in whatever scheme it is shown.
  const dressed = (layout) => {
    const ink = colour("--ink"), soft = colour("--soft"), grid = colour("--grid"), ground = colour("--ground");
    const worn = {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, size: 12, family: "system-ui, -apple-system, 'Segoe UI', sans-serif" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: soft, font: { color: ink } },
    };
    for (const axis of ["xaxis", "yaxis"]) {
      worn[axis] = {
        automargin: true, gridcolor: grid, linecolor: soft, zerolinecolor: grid, tickcolor: soft, ...layout[axis],
      };
    }
    worn.legend = { bgcolor: ground, font: { color: ink }, ...layout.legend };
    return worn;
  };
  // A colour bar takes a third of a narrow screen, and the words in the fields say the same.
  const shown = (data, narrow) => data.map((trace) =>
    trace.type === "heatmap" ? { ...trace, showscale: !narrow } : trace);
  const draw = () => Promise.all(plots.map((plot) => {
    const { data, layout } = figures[plot.dataset.chart];
    const narrow = plot.clientWidth < 520;
    return Plotly.react(plot, shown(data, narrow), dressed(layout), {
      responsive: true, displaylogo: false, showSendToCloud: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    });
  }));

  if (plots.length > 0) {
    draw().then(() => { document.documentElement.dataset.drawn = String(plots.length); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    // Paper is light, whatever the screen was.
    matchMedia("print").addEventListener("change", draw);
    addEventListener("beforeprint", draw);
    addEventListener("afterprint", draw);
  } else {
    document.documentElement.dataset.drawn = "0";
  }
})();
