// Trying rules on the past: the same form and the same pieces of page as without this script, shown as they are ready.
"use strict";

const trial = document.getElementById("trial");
const result = document.getElementById("result");
const running = document.getElementById("running");
const progress = document.getElementById("progress");
const stage = document.getElementById("stage");
const stop = document.getElementById("stop");
const replay = trial.querySelector("button[type=submit]");
const number = new Intl.NumberFormat();
let abort = null;

function pieceOf(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html; // rendered and escaped by the server, by the same template as the page
  window.immuproxy.showTimes(holder.content);
  return holder.content;
}

function say(text) {
  const box = document.createElement("div");
  box.className = "wrong";
  box.setAttribute("role", "alert");
  const words = document.createElement("strong");
  words.textContent = text;
  box.append(words);
  result.prepend(box);
}

function show(piece) {
  if (piece.stage) {
    const known = piece.of ? `: ${number.format(piece.done)} of ${piece.stage.startsWith("Collecting") ? "up to " : ""}${number.format(piece.of)}` : "";
    stage.textContent = piece.stage + known + (piece.changed ? `, ${number.format(piece.changed)} would change` : "");
    if (piece.of) { progress.max = piece.of; progress.value = piece.done; } else { progress.removeAttribute("value"); }
  } else if (piece.table) {
    result.replaceChildren(pieceOf(piece.table));
  } else if (piece.row) {
    document.getElementById("differences").hidden = false;
    document.getElementById("difference-rows").append(pieceOf(piece.row));
  } else if (piece.result) {
    result.prepend(pieceOf(piece.result));
  } else if (piece.wrong) {
    result.replaceChildren(pieceOf(piece.wrong));
  } else if (piece.failed) {
    say(piece.failed);
  }
  return Boolean(piece.result || piece.wrong || piece.failed);
}

async function follow(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  let ended = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return ended;
    const lines = (waiting + value).split("\n");
    waiting = lines.pop();
    for (const line of lines) ended = show(JSON.parse(line)) || ended;
  }
}

function begin() {
  abort = new AbortController();
  result.replaceChildren();
  running.hidden = false;
  stop.hidden = false;
  replay.disabled = true;
  progress.removeAttribute("value");
  stage.textContent = "Sending the file";
}

function end() {
  abort = null;
  running.hidden = true;
  stop.hidden = true;
  replay.disabled = false;
  document.getElementById("changed")?.focus({ preventScroll: true });
  result.scrollIntoView({ block: "start" });
}

async function reasonOf(answer) {
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return [...page.querySelectorAll("main h1, main p")].map((part) => part.textContent.trim()).filter(Boolean).join(". ").replaceAll("..", ".") || "This could not be tried.";
}

trial.addEventListener("submit", async (event) => {
  if (event.submitter && event.submitter.formAction.includes("/api/")) return; // a download
  event.preventDefault();
  if (abort) return;
  const sent = new FormData(trial);
  begin();
  try {
    const answer = await fetch("/rules/what-if?as=pieces", { method: "POST", body: sent, signal: abort.signal });
    if (!answer.ok) say(await reasonOf(answer));
    else if (!await follow(answer.body)) say("The connection broke off before the end. Try again.");
  } catch (error) {
    say(error.name === "AbortError" ? "Stopped." : "The console could not be reached. Try again.");
  }
  end();
});

stop.addEventListener("click", () => abort?.abort());
