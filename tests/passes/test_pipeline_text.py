"""Pipelines as text: what they mean, and where an error points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgc.errors import IRParseError, PassError
from cgc.passes.pipeline_text import parse_pipeline
from cgc.passes.registry import PASSES, options_of, pass_class, passes_of


def test_names_options_and_blanks():
    specs = parse_pipeline(' pair-comm , overlap-comm{ cost-model=a/b.json flag text="a b" } ')
    assert [(spec.name, spec.options) for spec in specs] == [
        ("pair-comm", {}),
        ("overlap-comm", {"cost-model": "a/b.json", "flag": "true", "text": "a b"}),
    ]


def test_options_get_the_type_of_their_field():
    (found,) = passes_of("allocate-channels{slot-bytes=64}")
    assert found.slot_bytes == 64


def _error(text):
    with pytest.raises(IRParseError) as caught:
        passes_of(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "<pipeline>:1:1: error: expected the name of a pass"),
        ("pair-comm,", "<pipeline>:1:11: error: expected the name of a pass"),
        ("pair-comm overlap-comm", "<pipeline>:1:11: error: expected `,` or the end"),
        ("pair-comm{a=}", "<pipeline>:1:13: error: expected a value"),
        ("pair-comm{=1}", "error: expected the name of an option, or `}`"),
        ("pair-comm{a", "error: expected the name of an option, or `}`"),
        ("pair-comm{a=1 a=2}", "<pipeline>:1:15: error: option a is given twice"),
        ("pair-com", "there is no pass 'pair-com' (did you mean 'pair-comm'?); the passes are verify-graph, "),
        ("pair-comm{cost=1}", "pair-comm has no option 'cost'; it has cost-model"),
        ("allocate-channels{slot-byte=1}", "no option 'slot-byte' (did you mean 'slot-bytes'?)"),
        ("allocate-channels{slot-bytes=many}", "option slot-bytes of allocate-channels takes an integer, got 'many'"),
    ],
)
def test_errors_say_where_and_what(text, message):
    assert message in _error(text)


def test_errors_show_a_caret_below_the_place():
    assert _error("infer-types,nonsense").splitlines()[1:] == ["infer-types,nonsense", "            ^^^^^^^^"]


@given(st.text(max_size=40))
def test_any_text_is_a_pipeline_or_an_error_with_a_place(text):
    try:
        specs, column = parse_pipeline(text), 1
    except IRParseError as error:
        specs, column = None, error.column
    assert specs != []
    assert 1 <= column <= len(text) + 1


def test_every_pass_has_its_registered_name_and_a_contract():
    for name in PASSES:
        found = pass_class(name)
        assert found.name == name
        assert found.accepts
        assert {kind for kind, _ in options_of(found).values()} <= {"bool", "int", "float", "str"}


def test_unknown_pass_class():
    with pytest.raises(PassError, match="the passes are verify-graph, anchor-calls"):
        pass_class("inline")
