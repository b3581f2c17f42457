"""Judging an answer by execution, and telling what was wrong with it without telling the right one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codeio_hpc.config import RunConfig
from codeio_hpc.sandbox import TOLERANCES, FunctionRequest, NotJsonError, Pool, Verdict, canonical, equal, parse_json
from codeio_hpc.sandbox.sizes import oversize_call
from codeio_hpc.sandbox.values import check_json
from codeio_hpc.teachers.blocks import last_code
from codeio_hpc.teachers.extraction import MAX_RESPONSE, extract

MAX_PREDICTION = 20_000
"""Characters of a predicted value that are still looked at."""
_SHOWN = 300


@dataclass(frozen=True)
class Judgement:
    """How an answer fared."""

    category: str
    """correct | wrong | exception | no_answer | timeout"""
    prediction: str | None
    """The extracted value as canonical JSON; of direction ``function`` the code."""
    feedback: str
    """What the execution says; never the expected value."""


class JudgingFailedError(Exception):
    """The sandbox failed, not the answer: the shard must be tried again."""


def judge(row: Mapping[str, Any], response: str, pool: Pool, config: RunConfig) -> Judgement:
    """Compare a predicted output with the executed one, or run a predicted input.

    ``row`` is an instance; the configuration says when values are equal, and how large an input of its tier may be.

    Raises:
        JudgingFailedError: the sandbox could not run the function at all.
    """
    direction = str(row["direction"])
    if direction == "function":
        return _judge_function(row, response, pool, config)
    found = extract(response, direction)
    if found.problem is not None:
        return Judgement("no_answer", None, f"No answer could be read: {found.problem}.")
    try:
        check_json(found.value)
        prediction = canonical(found.value)
    except (NotJsonError, RecursionError) as error:
        return Judgement("no_answer", None, f"The answer is no JSON value: {error}.")
    if len(prediction) > MAX_PREDICTION:
        return Judgement("no_answer", None, "The answer is too long to be looked at.")
    expected = parse_json(row["output"], max_bytes=10**7)
    if direction == "output":
        return _judge_output(prediction, found.value, expected, config)
    return _judge_input(row, prediction, found.value, expected, pool, config)


def _judge_output(prediction: str, value: Any, expected: Any, config: RunConfig) -> Judgement:
    if equal(value, expected, TOLERANCES[config.verify.equality]):
        return Judgement("correct", prediction, "That is right.")
    return Judgement("wrong", prediction, f"The output is not {shorten(prediction)}.")


def _judge_input(
    row: Mapping[str, Any], prediction: str, value: Any, expected: Any, pool: Pool, config: RunConfig
) -> Judgement:
    names = list(json.loads(row["input"]))
    if not isinstance(value, dict):
        return Judgement("no_answer", prediction, "The input must be an object with the names of the parameters.")
    if set(value) != set(names):
        problem = f"The input must have exactly these names: {', '.join(names)}."
        return Judgement("exception", prediction, problem)
    too_large = oversize_call(value, config.sample.size_of(row["tier"]))
    if too_large is not None:
        return Judgement("exception", prediction, f"The input is too large: {too_large}.")
    request = FunctionRequest(
        id=row["instance_id"], code=row["code"], entry_point=row["entry_point"], inputs=[value], kind=row["kind"]
    )
    ending = pool.run(request).results[0]
    if ending.verdict is Verdict.INFRASTRUCTURE:
        raise JudgingFailedError(f"{row['instance_id']}: {ending.error}")
    given = f"With the input {shorten(prediction)}"
    if ending.verdict is Verdict.TIMEOUT:
        return Judgement("timeout", prediction, f"{given} it does not end in time.")
    if ending.verdict is not Verdict.OK:
        return Judgement("exception", prediction, f"{given} it fails: {ending.error or ending.verdict}.")
    if equal(ending.output, expected, TOLERANCES[config.verify.equality]):
        return Judgement("correct", prediction, "That is right.")
    return Judgement("wrong", prediction, f"{given} the output is {shorten(canonical(ending.output))} instead.")


def _judge_function(row: Mapping[str, Any], response: str, pool: Pool, config: RunConfig) -> Judgement:
    """Run the code of the answer on the examples that the question shows, then on those that it keeps back."""
    code = last_code(response[-MAX_RESPONSE:], row["entry_point"])
    if code is None:
        return Judgement("no_answer", None, f"No block of Python code defines {row['entry_point']}.")
    if len(code) > MAX_PREDICTION:
        return Judgement("no_answer", None, "The code is too long to be looked at.")
    examples = json.loads(row["examples"])
    pairs = [*examples["shown"], *examples["hidden"]]
    inputs = [json.loads(given) for given, _ in pairs]
    request = FunctionRequest(id=row["instance_id"], code=code, entry_point=row["entry_point"], inputs=inputs)
    for place, (ending, (given, output)) in enumerate(zip(pool.run(request).results, pairs, strict=True)):
        if ending.verdict is Verdict.INFRASTRUCTURE:
            raise JudgingFailedError(f"{row['instance_id']}: {ending.error}")
        where = f"For the input {shorten(given)}" if place < len(examples["shown"]) else "For a further input"
        if ending.verdict is Verdict.TIMEOUT:
            return Judgement("timeout", code, f"{where} it does not end in time.")
        if ending.verdict is not Verdict.OK:
            return Judgement("exception", code, f"{where} it fails: {ending.error or ending.verdict}.")
        if not equal(ending.output, json.loads(output), TOLERANCES[config.verify.equality]):
            problem = "it gives another output"
            if place < len(examples["shown"]):
                problem = f"it gives {shorten(canonical(ending.output))}"
            return Judgement("wrong", code, f"{where} {problem}.")
    return Judgement("correct", code, "That is right.")


def shorten(text: str, limit: int = _SHOWN) -> str:
    """At most ``limit`` characters, the middle left out."""
    return text if len(text) <= limit else f"{text[: limit // 2]} … {text[-limit // 2 :]}"
