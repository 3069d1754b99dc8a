// Draw the page's diagrams with the vendored mermaid, and again when the reader changes between light and dark.
(() => {
  const blocks = [...document.querySelectorAll("pre.mermaid")];
  const sources = blocks.map((block) => block.textContent);
  const dark = () => document.documentElement.dataset.theme === "dark";
  let queue = Promise.resolve();

  async function draw() {
    mermaid.initialize({
      startOnLoad: false,
      securityLevel: "strict",
      theme: "base",
      themeVariables: dark()
        ? { primaryColor: "#1d2a35", primaryTextColor: "#e4e9ee", primaryBorderColor: "#56b4e9", lineColor: "#a9b4bf" }
        : { primaryColor: "#eef4f9", primaryTextColor: "#1f2933", primaryBorderColor: "#0072b2", lineColor: "#55606b" },
      fontFamily: getComputedStyle(document.body).fontFamily,
      flowchart: { useMaxWidth: true, htmlLabels: true },
    });
    for (const [i, block] of blocks.entries()) {
      const { svg } = await mermaid.render(`diagram-${i}`, sources[i]);
      block.innerHTML = svg;
      block.dataset.drawn = dark() ? "dark" : "light";
    }
  }

  // The theme chooses light or dark in a script of its own that may run after this one.
  document.addEventListener("DOMContentLoaded", () => {
    let last = dark();
    queue = queue.then(draw);
    new MutationObserver(() => {
      if (dark() !== last) {
        last = dark();
        queue = queue.then(draw);
      }
    }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  });
})();
