// The rules: what each holds is counted in the background, and filled in when it is known.
"use strict";

const counted = document.getElementById("counted");
const many = (count, one, more) => `${count.toLocaleString("en-GB")} ${count === 1 ? one : more}`;

function fill(cell, holds) {
  const box = document.createElement("div");
  box.textContent = many(holds.tags, "tag", "tags");
  if (holds.tags) {
    const where = document.createElement("div");
    where.className = "quiet small";
    where.textContent = `in ${many(holds.repositories, "repository", "repositories")}`;
    box.append(where);
  }
  cell.replaceChildren(box);
}

async function look() {
  const answer = await fetch("/api/v1/rules").catch(() => null);
  const found = answer && answer.ok ? await answer.json() : null;
  if (!found || !found.counted) { setTimeout(look, 2000); return; }
  for (const rule of found.rules) {
    const row = document.querySelector(`tr[data-rule="${CSS.escape(rule.name)}"]`);
    if (row) fill(row.querySelector(".holds"), rule.holds);
  }
  counted.textContent = "tags counted just now, verdicts of the last 7 days";
}

if (counted.hasAttribute("data-counting")) setTimeout(look, 700);
