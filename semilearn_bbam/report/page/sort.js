// Sorting and filtering of tables; without it every table can be read as it is.
(() => {
  "use strict";
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const states = { ascending: "▲", descending: "▼", none: "↕" };

  const valueOf = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent.trim();
    return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
  };

  const sort = (table, header, column) => {
    const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    const sign = direction === "ascending" ? 1 : -1;
    const numeric = header.dataset.sort === "number";
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row, place) => ({ row, place, value: valueOf(row, column, numeric) }));
    rows.sort((a, b) => {
      if (a.value === null || b.value === null) {
        return (a.value === null) - (b.value === null) || a.place - b.place; // without a value: last, both ways
      }
      const order = numeric ? (a.value > b.value) - (a.value < b.value) : collator.compare(a.value, b.value);
      return sign * order || a.place - b.place;
    });
    body.append(...rows.map((entry) => entry.row));
    for (const other of table.tHead.querySelectorAll("th[data-sort]")) {
      const state = other === header ? direction : "none";
      other.setAttribute("aria-sort", state);
      other.querySelector(".arrow").textContent = states[state];
    }
  };

  const makeSortable = (table) => {
    table.classList.add("js");
    Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
      if (!header.dataset.sort) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      const arrow = document.createElement("span");
      arrow.className = "arrow";
      arrow.setAttribute("aria-hidden", "true");
      arrow.textContent = states.none;
      button[header.classList.contains("n") ? "prepend" : "append"](arrow); // numbers end where their header does
      button.addEventListener("click", () => sort(table, header, column));
      header.append(button);
      header.setAttribute("aria-sort", "none");
    });
  };

  const makeFilter = (table) => {
    const rows = Array.from(table.tBodies[0].rows);
    const label = document.createElement("label");
    label.className = "filter";
    const box = document.createElement("input");
    box.type = "search";
    box.autocomplete = "off";
    box.placeholder = "part of a name";
    const count = document.createElement("span");
    count.className = "count";
    count.setAttribute("aria-live", "polite");
    const show = () => {
      const words = box.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        const name = (row.cells[0].title || row.cells[0].textContent).toLowerCase();
        row.hidden = !name.includes(words);
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = words ? `${shown} of ${rows.length} labels` : `${rows.length} labels`;
    };
    box.addEventListener("input", show);
    label.append("Filter labels", box);
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.append(label, count);
    table.closest(".scroll").before(bar);
    show();
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    makeSortable(table);
    if (table.hasAttribute("data-filter")) makeFilter(table);
  }
})();
