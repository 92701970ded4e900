"""Finds every small change that can be made to the logic of a source file.

A change is kept as a span of the source and the text to put there, found in the syntax tree: the
rest of the file stays as it is. What no test can see is left out: names, placement and synthesis
attributes, error messages and the checks of parameters that raise them.
"""

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Mutant", "mutants"]


_BINARY = {ast.Add: ("arithmetic", "+", "-"), ast.Sub: ("arithmetic", "-", "+"),
           ast.Mult: ("arithmetic", "*", "+"),
           ast.LShift: ("arithmetic", "<<", ">>"), ast.RShift: ("arithmetic", ">>", "<<"),
           ast.BitAnd: ("bitwise", "&", "|"), ast.BitOr: ("bitwise", "|", "&"),
           ast.BitXor: ("bitwise", "^", "|")}
_COMPARE = {ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Lt: ("<", "<="),
            ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")}

# Placement, names, reset and checks: without effect on what is computed.
_HINTS = {"name", "attrs", "keep", "reset_less", "src_loc_at", "role", "position", "part", "bits",
          "strict"}
# In their arguments numbers are widths. A wider register computes the same, so they only shrink.
_SHAPES = {"Signal", "Signature", "signed", "unsigned", "In", "Out", "StructLayout", "ArrayLayout"}
_CHECKS = {"Assert", "Assume", "Cover", "Print"}
_SEQUENCES = (ast.List, ast.Tuple, ast.ListComp, ast.JoinedStr)


@dataclass(frozen=True)
class Mutant:
    """One change. ``start`` and ``end`` count bytes of the file, ``first`` and ``last`` the lines
    of the statement around it; ``before`` and ``after`` are the changed lines on one line."""
    file:     str
    operator: str
    scope:    str
    start:    int
    end:      int
    text:     str
    line:     int
    first:    int
    last:     int
    before:   str
    after:    str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is known by, wherever it stands in its function."""
        return self.file, self.scope, self.before, self.after

    def apply(self, source: bytes) -> bytes:
        """The file with the change."""
        return source[:self.start] + self.text.encode() + source[self.end:]


def mutants(file: str, source: bytes) -> list[Mutant]:
    """All changes to ``source``, the content of ``file``, in the order of its lines."""
    finder = _Finder(file, source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda mutant: (mutant.start, mutant.end, mutant.text))


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, source: bytes):
        self.found: list[Mutant] = []
        self._file   = file
        self._source = source
        self._starts = [0]  # of each line
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._scope: tuple[str, ...] = ()
        self._lines = (1, 1)
        self._widens = 0  # by 1 or -1, a number that is greater by 1; 0: it is no width

    # Places in the source.

    def _begin(self, node: ast.AST) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.AST) -> int:
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.AST) -> str:
        return self._source[self._begin(node):self._end(node)].decode()

    def _add(self, operator: str, start: int, end: int, text: str) -> None:
        first = self._source.rfind(b"\n", 0, start) + 1
        lines = self._source[first:start], self._source[end:].partition(b"\n")[0]
        before, after = (
            " ".join((lines[0] + middle + lines[1]).decode().split())
            for middle in (self._source[start:end], text.encode()))
        self.found.append(Mutant(
            self._file, operator, ".".join(self._scope), start, end, text,
            self._source.count(b"\n", 0, start) + 1, *self._lines, before, after))

    def _swap_token(self, operator: str, node: ast.AST, left: ast.AST, right: ast.AST, old: str,
                    new: str) -> None:
        """Exchanges the operator between two operands; brackets keep its operands together."""
        gap = self._source[self._end(left):self._begin(right)].decode()
        bare = re.sub(r"#.*", lambda comment: " " * len(comment[0]), gap)
        at = self._end(left) + len(gap[:bare.index(old)].encode())
        begin, end = self._begin(node), self._end(node)
        self._add(operator, begin, end, "(" + (
            self._source[begin:at] + new.encode() + self._source[at + len(old):end]).decode() + ")")

    # Where in the program a node stands.

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            header = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
            outside, self._lines = self._lines, (node.lineno, header)
            super().visit(node)
            self._lines = outside
        else:
            super().visit(node)

    @contextmanager
    def _inside(self, name: str) -> Iterator[None]:
        outside, self._scope = self._scope, (*self._scope, name)
        yield
        self._scope = outside

    @contextmanager
    def _as_width(self, widens: int) -> Iterator[None]:
        outside, self._widens = self._widens, widens
        yield
        self._widens = outside

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name.lstrip("_").startswith("check"):
            return
        with self._inside(node.name):
            for statement in node.body:
                self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any("Enum" in ast.unparse(base) or "Flag" in ast.unparse(base) for base in node.bases):
            return  # the same code on both sides
        with self._inside(node.name):
            for statement in node.body:
                self.visit(statement)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_If(self, node: ast.If) -> None:
        if not any(isinstance(statement, ast.Raise) for statement in node.body):
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if len(self._scope) == 1 and node.value is None:  # a field or a port
            with self._as_width(1):
                self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    # Changes.

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Statements of a clock domain: each may be missing."""
        if ast.unparse(node.target).startswith("m.d."):
            if isinstance(node.value, ast.List):
                for element in node.value.elts:
                    self._add("statement", self._begin(element), self._end(element), "*()")
            elif not _is_call_of(node.value, _CHECKS):
                self._add("statement", self._begin(node.value), self._end(node.value), "[]")
        self.visit(node.value)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            call = item.context_expr
            if _is_call_of(call, {"If", "Elif"}) and call.args and not (
                    isinstance(call.args[0], ast.UnaryOp)
                    or (isinstance(call.args[0], ast.Compare)
                        and isinstance(call.args[0].ops[0], ast.Eq | ast.NotEq))):
                test = call.args[0]
                self._add("condition", self._begin(test), self._end(test),
                          f"({self._text(test)}) == 0")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if _is_call_of(node, _CHECKS):
            return
        if _is_call_of(node, {"Mux"}) and len(node.args) == 3:
            self._exchange("choice", *node.args[1:])
        if isinstance(node.func, ast.Attribute) and not node.args and \
                node.func.attr in ("any", "all"):
            end = self._end(node.func)
            self._add("any/all", end - 3, end, "all" if node.func.attr == "any" else "any")
        self.visit(node.func)
        inner = self._widens if _is_call_of(node, {"range"}) else 0
        with self._as_width(1 if _is_call_of(node, _SHAPES) else inner):
            for argument in node.args:
                self.visit(argument)
        with self._as_width(0):
            for keyword in node.keywords:
                if keyword.arg not in _HINTS:
                    self.visit(keyword.value)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._exchange("choice", node.body, node.orelse)
        self.generic_visit(node)

    def _exchange(self, operator: str, one: ast.AST, other: ast.AST) -> None:
        (one, other) = sorted((one, other), key=self._begin)
        middle = self._source[self._end(one):self._begin(other)].decode()
        self._add(operator, self._begin(one), self._end(other),
                  self._text(other) + middle + self._text(one))

    def visit_BinOp(self, node: ast.BinOp) -> None:
        listed = isinstance(node.left, _SEQUENCES) or isinstance(node.right, _SEQUENCES)
        less   = isinstance(node.op, ast.Sub)
        if type(node.op) in _BINARY and not listed and self._widens != (1 if less else -1):
            operator, old, new = _BINARY[type(node.op)]
            self._swap_token(operator, node, node.left, node.right, old, new)
        self.visit(node.left)
        divides = isinstance(node.op, ast.FloorDiv)
        with self._as_width(-self._widens if less or divides else self._widens):
            self.visit(node.right)

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
            self._swap_token("comparison", node, node.left, node.comparators[0],
                             *_COMPARE[type(node.ops[0])])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        self._swap_token("boolean", node, node.values[0], node.values[1], old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Invert | ast.Not):
            self._add("negation", self._begin(node), self._end(node), self._text(node.operand))
        elif isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self._add("arithmetic", self._begin(node), self._end(node), self._text(node.operand))
        self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        if node.lower is not None:
            self.visit(node.lower)
        if node.upper is not None:
            # A slice that is too long is cut by what it is assigned to.
            with self._as_width(isinstance(node.upper, ast.Constant)):
                self.visit(node.upper)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Constant(self, node: ast.Constant) -> None:
        begin, end = self._begin(node), self._end(node)
        if isinstance(node.value, bool):
            self._add("boolean", begin, end, str(not node.value))
        elif isinstance(node.value, int):
            if self._widens != 1:
                self._add("constant", begin, end, str(node.value + 1))
            if self._widens != -1 and node.value > self._widens:
                self._add("constant", begin, end, str(node.value - 1))


def _is_call_of(node: ast.AST, names: set[str]) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    return (function.attr if isinstance(function, ast.Attribute)
            else function.id if isinstance(function, ast.Name) else "") in names
