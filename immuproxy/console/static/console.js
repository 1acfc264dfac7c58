// Every page: times in the viewer's zone, ages that grow, copy buttons.  The pages are whole without it.
"use strict";

const PARTS = { month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const thisYear = new Intl.DateTimeFormat(undefined, PARTS);
const otherYear = new Intl.DateTimeFormat(undefined, { year: "numeric", ...PARTS });
const STEPS = [[172800, 86400, "d"], [3600, 3600, "h"], [60, 60, "min"], [0, 1, "s"]];

function age(then) {
  const passed = Math.floor((Date.now() - then) / 1000);
  if (passed < 1) return "just now";
  const [, unit, name] = STEPS.find(([least]) => passed >= least);
  return `${Math.floor(passed / unit)} ${name} ago`;
}

function showTimes(root) {
  const times = [...root.querySelectorAll("time[datetime]:not([data-relative])")];
  const widths = times.map((time) => time.getBoundingClientRect().width); // all are read before one is changed
  times.forEach((time, at) => {
    const then = new Date(time.dateTime);
    time.textContent = (then.getFullYear() === new Date().getFullYear() ? thisYear : otherYear).format(then);
    if (!widths[at] || !time.closest("table")) return;
    time.style.display = "inline-block"; // as wide as the UTC time was, so that no column moves
    time.style.setProperty("--was", `${widths[at]}px`);
  });
}

const SHORT = {
  time: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  weekday: { weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  day: { day: "numeric", month: "short" },
};

function showChartTimes() {
  for (const text of document.querySelectorAll("text[data-time]")) {
    text.textContent = new Date(text.dataset.time).toLocaleString(undefined, SHORT[text.dataset.form]);
  }
}

function growAges() {
  for (const time of document.querySelectorAll("time[data-relative]")) {
    time.textContent = age(new Date(time.dateTime).getTime());
  }
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    const field = document.createElement("textarea"); // where the page is not a secure context
    field.value = button.dataset.copy;
    field.className = "hidden-visually";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.classList.add("done");
  button.title = "Copied";
  setTimeout(() => { button.classList.remove("done"); button.title = button.getAttribute("aria-label"); }, 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) copy(button);
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(input|textarea|select)$/i.test(document.activeElement.tagName)) return;
  const box = document.querySelector("[role=search] input");
  if (box) { event.preventDefault(); box.focus(); box.select(); }
});

showTimes(document);
showChartTimes();
setInterval(growAges, 30000);
const note = document.getElementById("zone-note");
if (note) note.textContent = `Times in ${Intl.DateTimeFormat().resolvedOptions().timeZone || "your zone"}; UTC on hover`;
window.immuproxy = { showTimes };
