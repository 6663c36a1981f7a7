"use strict";
// Tables sort by a click on the last row of their head; rows stay within their part of the table.
(() => {
  function makeSortable(table) {
    const heads = [...[...table.tHead.rows].at(-1).cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        for (const body of table.tBodies) {
          if (body.classList.contains("fixed")) continue;
          const rows = [...body.rows];
          rows.sort((a, b) => compare(a.cells[column], b.cells[column], sign));
          body.append(...rows);
        }
      });
    });
  }

  // Cells without a value stay last in both orders.
  function compare(a, b, sign) {
    if (a.dataset.v === undefined) return sign * a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
    if (a.dataset.v === "" || b.dataset.v === "") return (a.dataset.v === "") - (b.dataset.v === "");
    return sign * (a.dataset.v - b.dataset.v);
  }

  document.querySelectorAll("table.sortable").forEach(makeSortable);
})();
