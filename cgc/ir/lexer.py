"""
Tokens of the IR's text: xDSL's lexer with one pattern for what the printer writes.

xDSL looks at a token character by character and makes a span for each, which is most of the time that parsing takes.
Here one match finds a token, and a span is made only if somebody asks where it was. Everything that the pattern does
not know (comments, tabs, escapes, floats, whatever is wrong) goes to xDSL, so that both read the same language.
"""

from __future__ import annotations

import re

from xdsl.utils.lexer import Input, Span
from xdsl.utils.mlir_lexer import MLIRLexer, MLIRToken, MLIRTokenKind, StringLiteral

# No alternative starts with a blank, or is a prefix of a longer token: `{-#`, `#-}`, `1.5` and `0x1` are left to xDSL.
_TOKEN = re.compile(
    r"""[ \n]*(?:
        (?P<BARE_IDENT>[a-zA-Z_][a-zA-Z0-9_$.]*)
      | (?P<PERCENT_IDENT>%(?:[0-9]+|[a-zA-Z$._-][a-zA-Z0-9$._-]*))
      | (?P<PUNCTUATION>[:,()\[\]<>=?}]|\{(?!-))
      | (?P<INTEGER_LIT>[0-9]+(?![0-9.x]))
      | (?P<AT_IDENT>@[a-zA-Z_][a-zA-Z0-9_$.]*)
      | (?P<EXCLAMATION_IDENT>!(?:[0-9]+|[a-zA-Z$._-][a-zA-Z0-9$._-]*))
      | (?P<STRING_LIT>"[^"\\\n\v\f]*")
    )""",
    re.VERBOSE,
)
_PUNCTUATION = {character: MLIRTokenKind(character) for character in ":,()[]<>=?}{"}
_KINDS = {group: MLIRTokenKind[name] for name, group in _TOKEN.groupindex.items() if name in MLIRTokenKind.__members__}


class IRToken(MLIRToken):
    """A token that knows its text, and makes its span when asked."""

    text: str = ""  # A property in xDSL, which slices the input each time

    def __init__(self, kind: MLIRTokenKind, text: str, end: int, source: Input[str]) -> None:
        self.kind = kind
        self.text = text
        self._end = end
        self._source = source

    @property
    def span(self) -> Span[str]:  # type: ignore[override]
        start = self._end - len(self.text)
        if self.kind is MLIRTokenKind.STRING_LIT:
            return StringLiteral(start, self._end, self._source)
        return Span(start, self._end, self._source)


class IRLexer(MLIRLexer):
    """Finds tokens by one pattern; also repairs xDSL's for strings, which takes exponential time if one has no end."""

    _unescaped_characters_regex = re.compile(r'"(?:[^"\\\n\v\f]|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*"')

    def lex(self) -> MLIRToken:
        match = _TOKEN.match(self.input.content, self.pos)
        if match is None:
            return super().lex()
        group = match.lastindex or 0
        text = match[group]
        self.pos = end = match.end()
        return IRToken(_KINDS.get(group) or _PUNCTUATION[text], text, end, self.input)
