"""A recursive-descent parser from tokens to an immutable tree. Nothing is ever evaluated as code.

    statement := relation (("," | ";" | or | and) relation)*
    relation  := ratio (("=" | "<" | ... | in) ratio)*
    ratio     := union (":" union)*
    union     := sum ((cup | cap | setminus) sum)*
    sum       := ["+" | "-" | "±"] product (("+" | "-" | "±") product)*
    product   := power (["*" | "/"] power)*            a missing operator multiplies
    power     := primary postfix* ["^" exponent] postfix*

Depth and size are limited, so any text is read or refused in time linear in its length.
"""

from __future__ import annotations

from typing import Any

from seethink.rewards.maths.tokens import NotMath, Token, TooBig, Unsupported, tokens
from seethink.rewards.maths.tree import Node, number
from seethink.rewards.numerals import plain_number

MAX_DEPTH = 50
MAX_NODES = 500

RELATIONS = {"=", "<", ">", "<=", ">=", "!=", "in", "parallel", "perp", "cong", "sim", "subset", "subseteq"}
CLOSING = {"(": (")", "]"), "[": ("]", ")"), "{": ("}",), "\\{": ("\\}",), "<(": (")>",)}
LOG_BASES = (["2", "("], ["10", "("])  # log2(x) as in programs
FUNCTION_NAMES = {"f", "g", "h", "F", "G", "P", "Q"}


def parse(text: str, commas: str = "thousands") -> Node:
    """Tree of a statement. Raises NotMath, Unsupported or TooBig (all `Unreadable`); see `latex`."""
    try:
        return _Parser(tokens(text, commas)).statement()
    except RecursionError:  # the caller's own stack was nearly full
        raise TooBig("too deep") from None


class _Parser:
    def __init__(self, found: list[Token]):
        self.tokens, self.at = found, 0
        self.depth = self.nodes = self.bars = 0

    def statement(self) -> Node:
        node = self.items(("stop",))
        if self.peek().kind != "stop":
            raise NotMath(f"{self.peek().text!r} out of place")
        return node

    def peek(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        token = self.tokens[self.at]
        self.at += token.kind != "stop"
        return token

    def accept(self, *texts: str) -> str:
        """Text of the next token if it is one of these operators, which is then consumed, else ''."""
        token = self.peek()
        if token.kind == "operator" and token.text in texts:
            self.at += 1
            return token.text
        return ""

    def expect(self, *texts: str) -> str:
        found = self.accept(*texts)
        if not found:
            raise NotMath(f"{' or '.join(texts)} is missing")
        return found

    def node(self, op: str, *args: Any) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise TooBig(f"over {MAX_NODES} operations")
        return Node(op, args)

    def items(self, closing: tuple[str, ...]) -> Node:
        """Relations up to a closing token; several become a list, semicolons between commas a list of lists."""
        groups: list[list[Node]] = [[self.relation()]]
        separators = set()
        while separator := self.separator():
            if self.peek().kind == "stop" or self.peek().text in closing:
                break
            separators.add(separator)
            if separator == ";":
                groups.append([])
            groups[-1].append(self.relation())
        inner = next((s for s in ("and", "or") if s in separators), ",")
        if len(separators) > 1 and ";" in separators:
            return self.node("list", ";", *(self.listed(inner, group) for group in groups))
        return self.listed(inner, [item for group in groups for item in group])

    def listed(self, separator: str, found: list[Node]) -> Node:
        return self.node("list", separator, *found) if len(found) > 1 else found[0]

    def separator(self) -> str:
        """The strongest of the separators that follow each other here (`, and`), or ''."""
        found = ""
        while text := self.accept(",", ";", "or", "and", "\\\\"):
            found = found if found in ("or", "and", ";") else {"\\\\": ","}.get(text, text)
        return found

    def relation(self) -> Node:
        sides, operators = [self.ratio()], []
        while operator := self.accept(*RELATIONS, "≈"):
            side = self.ratio()
            if operator == "≈" and (operators or sides[0].op not in ("symbol", "call")):
                continue  # `2\\sqrt3 ≈ 3.46` claims the exact value
            operators.append("=" if operator == "≈" else operator)
            sides.append(side)
        return self.node("relation", tuple(operators), *sides) if operators else sides[0]

    def ratio(self) -> Node:
        parts = [self.union()]
        while self.accept(":"):
            parts.append(self.union())
        return self.node("ratio", *parts) if len(parts) > 1 else parts[0]

    def union(self) -> Node:
        node = self.sum()
        while operator := self.accept("cup", "cap", "setminus"):
            parts = [node, self.sum()]
            while operator == "cup" and self.accept("cup"):
                parts.append(self.sum())
            node = self.node(operator, *parts)
        return node

    def sum(self) -> Node:
        sign = self.accept("+", "-", "±", "∓")
        terms = [self.term(sign, number(0))]
        while sign := self.accept("+", "-", "±", "∓"):
            if sign in ("±", "∓"):
                terms = [self.term(sign, self.node("+", *terms) if len(terms) > 1 else terms[0])]
            else:
                terms.append(self.term(sign, terms[0]))
        return self.node("+", *terms) if len(terms) > 1 else terms[0]

    def term(self, sign: str, left: Node) -> Node:
        node = self.product()
        if sign == "-":
            return self.node("neg", node)
        return self.node("pm" if sign == "±" else "mp", left, node) if sign in ("±", "∓") else node

    def product(self) -> Node:
        factors = [self.signed()]
        while True:
            if operator := self.accept("*", "/"):
                factor = self.signed()
                factors.append(self.node("reciprocal", factor) if operator == "/" else factor)
            elif self.starts_factor() or (factors[-1].op == "^" and self.peek().kind == "number"):
                factors.append(self.power())
            else:
                return self.node("*", *factors) if len(factors) > 1 else factors[0]

    def starts_factor(self) -> bool:
        kind, text = self.peek()
        if kind == "number":
            return False  # `3 4` is no product
        if kind != "operator":
            return kind in ("name", "function", "constant", "opaque", "begin")
        return text in ("(", "[", "{", "<(", "frac", "binom", "lfloor", "lceil", "sum", "prod") or (
            text == "|" and not self.bars
        )

    def signed(self) -> Node:
        negative = False
        while sign := self.accept("-", "+"):
            negative ^= sign == "-"
        return self.node("neg", self.power()) if negative else self.power()

    def power(self) -> Node:
        node = self.postfix(self.primary())
        if self.accept("^"):
            node = self.postfix(self.node("^", node, self.exponent()))
        return node

    def exponent(self) -> Node:
        """What a power is raised to: a group, or one signed factor; towers group to the right."""
        self.deeper()
        sign = self.accept("-", "+")
        node = self.postfix(self.primary())
        if self.accept("^"):
            node = self.node("^", node, self.exponent())
        self.depth -= 1
        return self.node("neg", node) if sign == "-" else node

    def postfix(self, node: Node) -> Node:
        mark = self.accept("!", "%", "°")
        if mark and self.accept("!", "%", "°"):
            raise Unsupported("repeated ! % or °")
        return self.node({"!": "factorial", "%": "percent", "°": "degree"}[mark], node) if mark else node

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooBig(f"over {MAX_DEPTH} levels")

    def primary(self) -> Node:
        self.deeper()
        kind, text = self.next()
        read = PREFIX.get(text) if kind == "operator" else VALUES.get(kind)
        if read is None:
            raise NotMath(f"{text or 'the end'!r} where a value should be")
        node = read(self, text)
        self.depth -= 1
        return node

    def literal(self, text: str) -> Node:
        plain = plain_number(text)
        if plain is None:
            raise TooBig(f"the number {text[:20]}")
        if self.accept("_"):
            return self.node("symbol", f"{text}_{self.subscript()}")
        return self.node("number", plain.value, plain.decimals)

    def symbol(self, name: str) -> Node:
        while self.accept("'"):
            name += "'"
        if self.accept("_"):
            name = f"{name}_{self.subscript()}"
        if self.peek().text == "(" and (name.rstrip("'") in FUNCTION_NAMES or name[0].isupper()):
            argument = self.primary()
            if argument.op == "bracket" and name[0].isupper():
                return argument  # a named point, P(3, 4)
            if name.rstrip("'") not in FUNCTION_NAMES:
                return self.node("*", self.node("symbol", name), argument)
            return self.node("call", name, *(argument.args[1:] if argument.op == "bracket" else (argument,)))
        return self.node("symbol", name)

    def subscript(self) -> str:
        """Raw text of a subscript: part of a name."""
        if not self.accept("{"):
            return self.next().text
        parts, depth = [], 1
        while depth:
            token = self.next()
            if token.kind == "stop":
                raise NotMath("} is missing")
            depth += (token.text == "{") - (token.text == "}")
            parts.append(token.text if depth else "")
        return "".join(parts)

    def opaque(self, command: str) -> Node:
        """Marks of geometry and set letters: a name that equals itself only."""
        name = self.subscript() if self.peek().text == "{" else ""
        while self.peek().kind == "name" and not name:
            name += "".join(self.next().text for _ in iter(lambda: self.peek().kind == "name", False))
        return self.node("symbol", f"{command} {name}".strip())

    def function(self, name: str) -> Node:
        if name == "sqrt":
            degree = self.bracketed("[") if self.accept("[") else number(2)
            return self.node("root", degree, self.primary())
        base, power = None, None
        for _ in range(2):
            ahead = [token.text for token in self.tokens[self.at : self.at + 2]]
            if name == "log" and base is None and (self.accept("_") or ahead in LOG_BASES):
                base = self.primary()
            elif power is None and self.accept("^"):
                power = self.exponent()
        argument = self.argument()
        if argument.op == "bracket":
            raise Unsupported(f"{name} of several arguments")
        if name in ("ln", "lg", "log"):
            base = {"ln": Node("constant", ("e",)), "lg": number(10)}.get(name, base)
            node = self.node("log", base, argument)
        elif power == Node("neg", (number(1),)):
            node, power = self.node("function", f"arc{name}", argument), None
        else:
            node = self.node("function", name, argument)
        return node if power is None else self.node("^", node, power)

    def argument(self) -> Node:
        """A bracket is the whole argument; without one it is the product up to the next sign or function."""
        if self.peek().text in ("(", "{", "|", "["):
            return self.primary()
        node = self.power() if self.peek().kind != "function" else self.primary()
        while self.starts_factor() and self.peek().kind in ("name", "constant") or self.peek().text == "frac":
            node = self.node("*", node, self.power())
        if self.peek().kind == "operator" and self.peek().text == "(" and node.op in ("number", "symbol"):
            node = self.node("*", node, self.power())
        return node

    def matrix(self, name: str) -> Node:
        if name.rstrip("*") not in ("pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"):
            raise Unsupported(f"environment {name}")
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        while self.peek().kind != "end":
            row.append(self.relation())
            if self.accept("&"):
                continue
            rows, row = [*rows, tuple(row)], []
            if not self.accept("\\\\") and self.peek().kind != "end":
                raise NotMath("a matrix row that does not end")
        self.next()
        if row or len({len(r) for r in rows}) != 1:
            raise NotMath("matrix rows of different length")
        return self.node("matrix", *(self.node("bracket", "()", *r) for r in rows))

    def bracketed(self, opening: str) -> Node:
        """What an opening bracket begins: a group, or a bracket node where there are several items or the shape matters."""
        ahead = self.tokens[self.at : self.at + 2]
        described = opening in ("\\{", "{") and ahead[0].kind == "name" and ahead[1].text in ("|", "mid", ":")
        self.at += 2 * described  # `{x | x > 2}`
        bars, self.bars = (
            self.bars,
            int(opening == "\\{" and not described),
        )  # in `{x | x > 2}` the bar ends the first part
        if opening == "\\{" and self.accept("\\}"):
            return self.node("symbol", "emptyset")
        inner = self.items(CLOSING[opening])
        if opening == "\\{" and self.accept("|", "mid", ":"):
            inner = self.items(CLOSING[opening])  # the set of those with this property
            self.expect("\\}")
            self.bars = bars
            return inner
        closing = self.expect(*CLOSING[opening])
        self.bars = bars
        several = inner.op == "list"
        if described:
            return inner
        if not several and opening != "\\{":
            return inner
        shape = {"\\{": "{}", "{": "{}", "<(": "()"}.get(opening, opening + closing)
        return self.node("bracket", shape, *(inner.args[1:] if several else (inner,)))

    def absolute(self, _: str) -> Node:
        self.bars += 1
        inner = self.sum()
        self.expect("|")
        self.bars -= 1
        return self.node("abs", inner)

    def rounded(self, opening: str) -> Node:
        inner = self.sum()
        self.expect("r" + opening[1:])
        return self.node("function", {"lfloor": "floor", "lceil": "ceil"}[opening], inner)

    def fraction(self, op: str) -> Node:
        above, below = self.primary(), self.primary()
        return self.node("/" if op == "frac" else "binom", above, below)

    def series(self, op: str) -> Node:
        """`\\sum_{k=1}^{n} body` with its bounds in either order."""
        low = high = None
        for _ in range(2):
            if self.accept("_"):
                low = self.primary()
            elif self.accept("^"):
                high = self.exponent()
        if low is None or high is None or low.op != "relation" or low.args[0] != ("=",) or low.args[1].op != "symbol":
            raise Unsupported(f"\\{op} without plain bounds")
        return self.node(op, low.args[1].args[0], low.args[2], high, self.product())


VALUES = {
    "number": _Parser.literal,
    "name": _Parser.symbol,
    "constant": lambda parser, text: parser.node("constant", text),
    "function": _Parser.function,
    "opaque": _Parser.opaque,
    "begin": _Parser.matrix,
}
PREFIX = {
    **dict.fromkeys(("(", "[", "{", "\\{", "<("), _Parser.bracketed),
    **dict.fromkeys(("lfloor", "lceil"), _Parser.rounded),
    **dict.fromkeys(("frac", "binom"), _Parser.fraction),
    **dict.fromkeys(("sum", "prod"), _Parser.series),
    "|": _Parser.absolute,
}
