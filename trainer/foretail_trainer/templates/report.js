"use strict";
for (const tools of document.querySelectorAll(".tools")) {
  const table = document.getElementById(tools.dataset.table);
  const rows = Array.from(table.tBodies[0].rows);
  const search = tools.querySelector("input[type=search]");
  const boxes = Array.from(tools.querySelectorAll("input[type=checkbox]"));
  const found = tools.querySelector("output");
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = boxes.filter((box) => box.checked).map((box) => box.value);
    let count = 0;
    rows.forEach((row, i) => {
      const tags = row.dataset.tags.split(" ");
      const fits = words.every((word) => texts[i].includes(word)) && (!wanted.length || wanted.some((tag) => tags.includes(tag)));
      row.hidden = !fits;
      count += fits;
    });
    found.textContent = `${count} of ${rows.length} shown`;
  };
  search.addEventListener("input", show);
  boxes.forEach((box) => box.addEventListener("change", show));
  tools.hidden = false;
  show();
}
for (const table of document.querySelectorAll("table[data-sort]")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const compare = (a, b) => value(a).localeCompare(value(b), "en", { numeric: true });
      const body = table.tBodies[0];
      body.append(...Array.from(body.rows).sort((a, b) => (down ? compare(b, a) : compare(a, b))));
    });
  });
}
