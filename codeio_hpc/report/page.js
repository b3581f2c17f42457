"use strict";
const samples = JSON.parse(document.getElementById("data").textContent);
const controls = Object.fromEntries(["direction", "outcome", "search", "previous", "next", "place", "sample"].map(
  (name) => [name, document.getElementById(name)]));
let shown = [], at = 0;

function matches(sample) {
  const outcome = sample.turns.length > 1 ? "revised" : sample.turns[0].category;
  return (!controls.direction.value || sample.direction === controls.direction.value)
    && (!controls.outcome.value || outcome === controls.outcome.value)
    && JSON.stringify(sample).toLowerCase().includes(controls.search.value.toLowerCase());
}

function add(tag, text, kind) {
  const element = document.createElement(tag);
  element.textContent = text;  // never as HTML: this is code that nobody has read
  if (kind) element.className = kind;
  controls.sample.append(element);
}

function draw() {
  controls.place.textContent = shown.length ? `${at + 1} of ${shown.length}` : "none";
  controls.sample.replaceChildren();
  if (!shown.length) return;
  const sample = shown[at];
  add("h3", `${sample.name} (${sample.source}: ${sample.path})`);
  add("p", sample.question);
  add("pre", sample.code);
  add("h4", sample.direction === "output" ? "Given input; what is the output?" : "Given output; what input gives it?");
  add("pre", sample.direction === "output" ? sample.input : sample.output);
  sample.turns.forEach((turn, number) => {
    add("h4", number ? `Revision ${number}` : "Answer");
    add("pre", turn.response);
    add("p", `${turn.category}: ${turn.feedback}`, turn.category === "correct" ? "correct" : "wrong");
  });
}

function filter() { shown = samples.filter(matches); at = 0; draw(); }
function move(by) { if (shown.length) { at = (at + by + shown.length) % shown.length; draw(); } }
for (const name of ["direction", "outcome", "search"]) controls[name].addEventListener("input", filter);
controls.previous.addEventListener("click", () => move(-1));
controls.next.addEventListener("click", () => move(1));
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select")) return;
  if (event.key === "ArrowLeft") move(-1);
  if (event.key === "ArrowRight") move(1);
});
filter();
