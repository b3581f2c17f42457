"use strict";
const rows = JSON.parse(document.getElementById("data").textContent);
const controls = Object.fromEntries(
  ["what", "direction", "outcome", "reason", "search", "previous", "next", "place", "sample"].map(
    (name) => [name, document.getElementById(name)]));
const QUESTIONS = {
  output: "Given input; what is the output?", input: "Given output; what input gives it?",
  function: "Given examples; which function is it?",
};
let shown = [], at = 0, note = "";

for (const reason of ["", ...new Set(rows.rejected.map((row) => `${row.stage}: ${row.reason}`))]) {
  const option = document.createElement("option");
  option.value = reason;
  option.textContent = reason || "all reasons";
  controls.reason.append(option);
}

for (const option of controls.what.options) option.disabled = !rows[option.value].length;
if (!rows.samples.length && rows.rejected.length) controls.what.value = "rejected";

function found(row) {
  return JSON.stringify(row).toLowerCase().includes(controls.search.value.trim().toLowerCase());
}

function matches(sample) {
  if (sample.messages) return found(sample);
  const outcome = sample.turns.length > 1 ? "revised" : sample.turns[0].category;
  return (!controls.direction.value || sample.direction === controls.direction.value)
    && (!controls.outcome.value || outcome === controls.outcome.value) && found(sample);
}

function dropped(row) {
  const label = `${row.stage}: ${row.reason}`, wanted = controls.reason.value;  // "impure" stands for "impure:open" too
  return (!wanted || label === wanted || label.startsWith(`${wanted}:`)) && found(row);
}

function add(tag, text, kind) {
  const element = document.createElement(tag);
  element.textContent = text;  // never as HTML: this is code that nobody has read
  if (kind) element.className = kind;
  controls.sample.append(element);
  return element;
}

function fold(title, text) {
  const summary = document.createElement("summary"), pre = document.createElement("pre");
  summary.textContent = title;
  pre.textContent = text;
  add("details", "").append(summary, pre);
}

function drawFinished(sample) {
  add("h3", `${sample.training_stage} (${sample.source}: ${sample.path})`);
  for (const message of sample.messages) {
    add("h4", message.role);
    add("pre", message.content);
  }
  add("h4", "Where it comes from");
  add("p", `source ${sample.source}, file ${sample.path}, licence ${sample.licence}`);
  add("p", `format ${sample.format} · tags: ${sample.tags.join(", ") || "none"} · flags: ${sample.flags.join(", ") || "none"}`
    + ` · times trained in an epoch: ${sample.repeats}`, "note");
  add("p", `all about this one: codeio show ${rows.run} ${sample.sample_id}`, "note");
}

function drawSample(sample) {
  if (sample.messages) { drawFinished(sample); return; }
  add("h3", `${sample.name} (${sample.source}: ${sample.path})`);
  add("p", sample.question);
  add("pre", sample.code);
  add("h4", QUESTIONS[sample.direction]);
  add("pre", sample.direction === "output" ? sample.input : sample.direction === "input" ? sample.output : sample.prompt);
  sample.turns.forEach((turn, number) => {
    add("h4", number ? `Revision ${number}` : "Answer");
    add("pre", turn.response);
    add("p", `${turn.category}: ${turn.feedback}`, turn.category === "correct" ? "correct" : "wrong");
  });
  add("h4", "Where it comes from");
  add("p", `source ${sample.source}, file ${sample.path}, licence ${sample.licence}${provenance(sample)}`);
  fold("the raw file", sample.raw);
  fold("the prompt as it was asked", sample.prompt);
  add("p", `file ${sample.file_id} → function ${sample.function_id} → pair ${sample.pair_id} → question `
    + `${sample.instance_id} → conversation ${sample.conversation_id} → sample ${sample.sample_ids.join(", ") || "–"}`, "note");
  add("p", `tags: ${sample.tags.join(", ") || "none"} · flags: ${sample.flags.join(", ") || "none"} · difficulty `
    + `${sample.difficulty} · ` + (sample.steps === null ? "branches were not counted"
    : `${sample.steps} conditions and turns of loops · branch coverage ${Math.round(100 * sample.coverage)} %`), "note");
}

function drawRejected(row) {
  add("h3", `${row.stage}: ${row.reason}`);
  if (row.meaning) add("p", row.meaning);
  if (row.detail) add("p", row.detail, "wrong");
  add("p", row.parent_id ? `a candidate that was made of ${row.parent_id}` : "an input row of the stage");
  add("h4", "Where it comes from");
  add("p", `source ${row.source || "–"}, file ${row.path || "–"}${provenance(row)}`);
  if (row.text) fold(row.what, row.text);
  add("p", `${row.total.toLocaleString("en")} rows were dropped for this reason: codeio rejected ${rows.run} --stage ${row.stage} --why ${row.reason}`, "note");
  add("p", `all about this one: codeio show ${rows.run} ${row.row_id}`, "note");
}

function provenance(row) {
  const known = Object.entries(JSON.parse(row.provenance || "{}")).map(([name, value]) => `${name} ${value}`);
  return known.length ? ` · ${known.join(", ")}` : "";
}

function draw() {
  controls.place.textContent = shown.length ? `${at + 1} of ${shown.length} here${note}` : "none";
  controls.sample.replaceChildren();
  if (shown.length) (controls.what.value === "samples" ? drawSample : drawRejected)(shown[at]);
  else if (/^[a-z]+[0-9a-f]{20}$/.test(controls.search.value.trim())) {
    add("p", `This row is not on the page: codeio show ${rows.run} ${controls.search.value.trim()}`);
  } else add("p", "No such row on this page.");
}

function filter() {
  const samples = controls.what.value === "samples";
  controls.direction.hidden = controls.outcome.hidden = !samples || rows.samples.some((row) => row.messages);
  controls.reason.hidden = samples;
  shown = samples ? rows.samples.filter(matches) : rows.rejected.filter(dropped);
  at = 0;
  draw();
}

function search() {
  note = "";
  filter();
  if (!shown.length && controls.search.value) {  // perhaps among the others
    note = controls.what.value === "samples" ? " (no sample has it: rejected rows)" : " (no rejected row has it: samples)";
    controls.what.value = controls.what.value === "samples" ? "rejected" : "samples";
    filter();
    if (!shown.length) { controls.what.value = "samples"; filter(); }
  }
}

function move(by) { if (shown.length) { at = (at + by + shown.length) % shown.length; draw(); } }
for (const name of ["what", "direction", "outcome", "reason"]) {
  controls[name].addEventListener("input", () => { note = ""; filter(); });
}
for (const link of document.querySelectorAll("a[data-reason]")) {
  link.addEventListener("click", () => {
    const label = `${link.dataset.stage}: ${link.dataset.reason}`;
    if (![...controls.reason.options].some((option) => option.value === label)) {  // of several, as impure:open
      controls.reason.append(new Option(label, label));
    }
    Object.assign(controls.what, { value: "rejected" });
    Object.assign(controls.reason, { value: label });
    Object.assign(controls.search, { value: "" });
    note = "";
    filter();
  });
}
controls.search.addEventListener("input", search);
controls.previous.addEventListener("click", () => move(-1));
controls.next.addEventListener("click", () => move(1));
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select")) return;
  if (event.key === "ArrowLeft") move(-1);
  if (event.key === "ArrowRight") move(1);
});
filter();
