"""What each reason in a rejected table means, in a sentence for people."""

from __future__ import annotations

MEANING = {
    # collect
    "licence": "its licence is not among those wanted",
    "unreadable": "the file is gone, no regular file, not permitted, or outside its source",
    "not_utf8": "its bytes are not UTF-8 text",
    "too_short": "shorter than collect.min_bytes",
    "too_long": "longer than allowed: a file's or a line's bytes, a function's code, or a sample's tokens",
    "not_parseable": "not Python of this interpreter's version",
    "generated": "its head says that a program wrote it",
    "duplicate": "an earlier file or sample, or an earlier function of its file, is the same",
    "near_duplicate": "an earlier file or sample is almost the same",
    "changed": "the file is not what it was when duplicates were looked for",
    "broken_record": "no JSON object on the line, or not one of the kind that is asked for",
    "no_content": "the record has nothing in the column that is read, or nothing of the kind that belongs there",
    # import
    "empty": "no message, or one that says nothing",
    "not_text": "a message holds something else than text: parts, nothing, null characters",
    "bad_roles": "its messages are not a system message or none, then user and assistant in turn, the assistant last",
    "no_assistant": "no message is the assistant's: there is nothing to learn",
    "weight": "not in the share of its source that is used (the source's weight)",
    # transform
    "no_function": "no function of the file can be used; its candidates say why, one by one",
    "method": "a method of a class: it needs an object, which is no JSON value",
    "async": "an asynchronous function",
    "impure": "it depends on more than its arguments: randomness, clocks, files, processes, printing, introspection",
    "module_state": "it changes, or depends on, what the module keeps between calls",
    "unsupported_import": "it needs a module that is not among the pure ones",
    "unknown_name": "it uses a name that the file does not define",
    "unknown_type": "nothing tells which kind of value a parameter needs, and no trial found one",
    "callable_parameter": "a parameter is called: it would have to be a function, which is no JSON value",
    "no_parameters": "nothing that an input could vary",
    "too_many_parameters": "more parameters than are wanted",
    "signature": "its arguments cannot all be given by name",
    "no_result": "it returns nothing, or ended without returning",
    "returns_function": "it returns a function",
    "name_taken": "it uses a name that the unified format needs",
    "surrogates": "its text holds halves of characters",
    "over_limit": "the file has more functions than transform.max_functions_per_file",
    "missing_heading": "a part of the reply is missing",
    "missing_part": "a part of the function or reply is empty",
    "no_code": "no block of Python code where one belongs",
    "no_entry_point": "the code does not define main_solution",
    "no_generator": "the code does not define input_generator",
    "generator": "the input generator cannot be used with this function",
    "question_without": "the question does not name a variable",
    # sample: verdicts of the sandbox, and what is done with good pairs
    "exception": "the code raised an exception for this input",
    "timeout": "out of CPU time, or of wall time twice, or not run after two timeouts of its function",
    "memory": "out of memory",
    "output_too_large": "the output is longer than the sandbox lets out",
    "not_json": "the value is not made of JSON's own types",
    "nondeterministic": "another output when it was executed again under another hash seed and random seed",
    "too_large": "input or output breaks the size rules (sample.size)",
    "crashed": "the interpreter was ended by a signal",
    "forbidden": "the code made a call that the sandbox denies",
    "none_output": "the output is null",
    "surplus": "a good pair beyond the number wanted",
    "too_few_pairs": "fewer good pairs than sample.min_pairs",
    "constant": "every pair of the function has the same output",
    "trivial": "the output is always one of the arguments as it is",
    "leaking": "the question's text shows the pair",
    "float_noise": "half of the outputs hold floats of more than nine digits",
    # pose, answer
    "example": "a pair that another question of its function shows as an example",
    "heldout": "its function is kept for evaluation: never asked to a teacher, never trained on",
    "no_recorded_answer": "the journal has no answer to this question",
    "not_traceable": "the code did not give its stored output under the tracer",
    "too_many_steps": "its run is too long to be told",
    # decontaminate, assemble, tokenise
    "contaminated": "it shares a run of words with a benchmark item",
    "left_out": "its source is not used (assemble.leave_out), or its training stage (only, of a source of samples)",
    "direction": "its direction is not used (assemble.directions)",
    "pairs_fraction": "not among the share of its function's pairs that is used",
    "fraction": "not among the share of instances that is used",
    "wrong": "its answer is wrong (assemble.wrong: drop)",
    "control_token": "its text holds a control token of the tokenizer",
    "border": "a token covers both the end of the prompt and the white space that an answer begins with",
    "template": "the model's chat template refuses it: many take no system message",
}
"""By the part of a reason before its colon."""


def meaning_of(reason: str) -> str:
    """What a reason means; '' for one that is not known."""
    return MEANING.get(reason.partition(":")[0], "")
