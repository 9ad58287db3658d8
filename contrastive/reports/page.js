"use strict";

// On touch screens, dragging scrolls the page instead of zooming.
const touch = matchMedia("(pointer: coarse)").matches;
const config = {
  responsive: true,
  displaylogo: false,
  modeBarButtons: [["toImage", "resetScale2d"]],
};

function draw(figure, paragraph, { data, layout, words }) {
  const plot = figure.querySelector(".plot");
  const displayModeBar = touch || figure.classList.contains("small") ? false : "hover";
  const style = touch ? { ...layout, dragmode: false } : layout;
  Plotly.react(plot, data, style, { ...config, displayModeBar });
  paragraph.textContent = words;
  plot.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent} ${words}`);
}

for (const block of document.querySelectorAll(".block")) {
  const inputs = [...block.querySelectorAll("input, select")];
  // All sentences share one live region, so that a screen reader announces a change once.
  const paragraphs = block.querySelector(".words").children;
  const figures = [...block.querySelectorAll("figure")].map((figure, number) => [
    figure,
    paragraphs[number],
    JSON.parse(figure.querySelector("script").textContent),
  ]);
  const show = () => {
    let place = 0;
    for (const input of inputs) {
      const places = input.options ? null : JSON.parse(input.dataset.places);
      place = place * (places ?? input.options).length + Number(input.value);
      if (places) {
        input.setAttribute("aria-valuetext", places[input.value]);
        input.previousElementSibling.textContent = places[input.value];
      }
    }
    for (const [figure, paragraph, frames] of figures) draw(figure, paragraph, frames[place]);
  };
  block.addEventListener("input", show);
  show();
}

// Plotly sizes figures in pixels, so resize them for the printed page.
const plots = [...document.querySelectorAll(".plot")];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const plot of plots) {
    const [width, height] = plot.closest(".small") ? [320, 170] : [670, 300];
    Plotly.relayout(plot, { autosize: false, width, height });
  }
});
addEventListener("afterprint", () => {
  for (const plot of plots) Plotly.relayout(plot, { autosize: true, width: null, height: null });
});
